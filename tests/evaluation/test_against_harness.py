"""Our tasks against lm-eval's own `evaluate` on a tiny random model: equal requests, metrics of each item, results."""

import random

import numpy as np
import pytest
import torch
from lm_eval.api import metrics
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from evomerge.evaluation import EvalTask, Generation, Likelihood, Outcome, chat_from, load_model, load_tasks
from evomerge.evaluation.quiet import undisturbed
from tests.evaluation.local_tasks import write_tasks

CHAT = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<bot>{% endif %}"
)
STRICT_CHAT = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHAT
METRICS = {
    "choice": ("acc", "acc_norm", "acc_mutual_info", "brier_score"),
    "blank": ("acc",),
    "rolling": ("word_perplexity", "byte_perplexity", "bits_per_byte"),
    "cloze": ("perplexity", "acc"),
    "bleu": ("bleu", "chrf", "ter", "exact_match"),
}
ALONE = {"bleu": metrics.bleu, "chrf": metrics.chrf, "ter": metrics.ter, "brier_score": metrics.brier_score}


@pytest.fixture(scope="module")
def model(model_dir) -> HFLM:
    live, tokenizer = load_model(model_dir)
    tokenizer.chat_template = CHAT
    with undisturbed():
        # One request a batch: then a number is the same bits whatever else is asked.
        return HFLM(pretrained=live, tokenizer=tokenizer, batch_size=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("local")


@pytest.fixture(scope="module")
def configs(folder) -> dict[str, dict]:
    return write_tasks(folder)


def harness(model, folder, name, **options) -> dict:
    """What lm-eval's command line computes with its default seeds."""
    with undisturbed():
        random.seed(0)
        np.random.seed(1234)
        torch.manual_seed(1234)
        loaded = TaskManager(include_path=str(folder), include_defaults=False).load([name])
        for task in loaded["tasks"].values():
            if task.config.num_fewshot is None:
                task.set_config("num_fewshot", 0)
            task.set_fewshot_seed(1234)
        return evaluate(model, loaded, bootstrap_iters=0, **options)


def ours(model, task: EvalTask) -> list[Outcome]:
    items = task.items("report", in_file_order=True)
    requests = task.requests(items)
    flat = [request for item in items for request in requests[item]]
    kind = task.generation_settings["request"]
    assert {request.request_type for request in flat} == {kind}
    with undisturbed():
        said = iter(getattr(model, kind)(flat, disable_tqdm=True))
    responses = {
        "generate_until": lambda text: Generation(text, 1, False),
        "loglikelihood": lambda pair: Likelihood(*pair),
        "loglikelihood_rolling": lambda logprob: Likelihood(logprob, False),
    }
    return task.outcomes([(item, [responses[kind](next(said)) for _ in requests[item]]) for item in items])


def assert_same_requests(task: EvalTask, samples: list[dict], subtask: str = "") -> None:
    assert len(samples) > 5
    for sample in samples:
        item = f"{subtask}test:{sample['doc_id']}"
        assert [request.args for request in task.requests([item])[item]] == sample["arguments"]


@pytest.mark.parametrize("name", METRICS)
def test_requests_items_and_results(model, folder, configs, name):
    theirs = harness(model, folder, name)
    for metric in METRICS[name]:
        task = load_tasks({name: {**configs[name], "metric": metric}})[name]
        assert task.metric == metric
        assert_same_requests(task, theirs["samples"][name])
        outcomes = ours(model, task)
        assert len({outcome.answer for outcome in outcomes}) > 10
        assert task.aggregate(outcomes) == theirs["results"][name][f"{metric},none"]
        assert task.aggregate(list(reversed(outcomes))) == theirs["results"][name][f"{metric},none"]
        for outcome, sample in zip(outcomes, theirs["samples"][name], strict=True):
            value = sample[metric]
            if metric in ("word_perplexity", "byte_perplexity", "bits_per_byte"):
                logprob, units = value
                assert outcome.weight == units
                assert outcome.score * units == pytest.approx(logprob / (np.log(2) if "bits" in metric else 1))
                continue
            if not isinstance(value, int | float):  # what all items together turn into a number
                value = ALONE[metric]([value])
            assert outcome.score == (value if task.higher_is_better or metric == "perplexity" else -value)


def test_a_group(model, folder, configs):
    theirs = harness(model, folder, "exam")
    for metric in ("acc", "acc_norm"):  # weighted by size, and not
        task = load_tasks({"exam": {**configs["exam"], "metric": metric}})["exam"]
        for name in ("exam_a", "exam_b"):
            assert_same_requests(task, theirs["samples"][name], f"{name}/")
        outcomes = ours(model, task)
        assert task.aggregate(outcomes) == theirs["results"]["exam"][f"{metric},none"]
        means = [theirs["results"][name][f"{metric},none"] for name in ("exam_a", "exam_b")]
        assert means[0] != means[1], "else any weighting agrees"
        weighted = sum(o.score * o.weight for o in outcomes) / sum(o.weight for o in outcomes)
        assert weighted == pytest.approx(task.aggregate(outcomes))


@pytest.mark.parametrize("multiturn", [True, False, None])
@pytest.mark.parametrize("name", ["choice", "prefixed"])
@pytest.mark.parametrize("template", [CHAT, STRICT_CHAT])
def test_chats(model, folder, configs, name, multiturn, template):
    model.tokenizer.chat_template = template
    options = {"apply_chat_template": True, "system_instruction": "Be brief."}
    theirs = harness(model, folder, name, fewshot_as_multiturn=multiturn is not False, **options)
    keys = {"chat_template": True, "system_instruction": "Be brief.", "fewshot_as_multiturn": multiturn}
    for chat in (chat_from(model.tokenizer), model):
        task = load_tasks({name: {**configs[name], **keys}}, chat=chat)[name]
        assert_same_requests(task, theirs["samples"][name])
        assert "Be brief" in task.prompt("test:0") or template == STRICT_CHAT
    outcomes = ours(model, task)
    assert task.aggregate(outcomes) == theirs["results"][name][f"{task.metric},none"]


def test_system_instruction_without_a_chat(model, folder, configs):
    theirs = harness(model, folder, "bleu", system_instruction="Be brief.")
    task = load_tasks({"bleu": {**configs["bleu"], "system_instruction": "Be brief."}})["bleu"]
    assert_same_requests(task, theirs["samples"]["bleu"])
