import hashlib
import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch
import yaml

from evomerge.errors import CandidateError, UsageError, WorkError
from evomerge.evaluation import SPLITS, EvalTask, Generation, Likelihood, TaskSpec, find_task_config, load_tasks
from evomerge.evaluation.types import text_to_responses
from tests.evaluation.local_tasks import write_tasks

FROM_TRAIN = {"search": "train", "selection": "train", "report": "test"}
TURNED = "metric_list: [{metric: acc, aggregation: mean, higher_is_better: false}]\n"
NO_ACC = "metric_list: [{metric: acc_norm, aggregation: mean, higher_is_better: true}]\n"


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> dict[str, dict]:
    return write_tasks(tmp_path_factory.mktemp("local"))


@pytest.fixture
def choice(local) -> dict[str, dict]:
    return {"choice": local["choice"]}


@pytest.fixture
def exam(local) -> dict:
    return local["exam"]


def with_lines(sums, *lines) -> str:
    """Return a copy of the task file with other lines at its end, which win."""
    content = yaml.safe_load(Path(sums["task"]).read_text())
    keys = {line.partition(":")[0] for line in lines}
    kept = yaml.safe_dump({key: value for key, value in content.items() if key not in keys})
    path = Path(sums["task"]).with_name(f"{hashlib.sha256(str(lines).encode()).hexdigest()[:8]}.yaml")
    path.write_text(kept + "".join(line + "\n" for line in lines))
    return str(path)


def right(task, item) -> list[Likelihood]:
    """Return likelihoods under which the right choice wins."""
    requests = task.requests([item])[item]
    return [Likelihood(0.0 if r.idx == r.doc["answer"] else -9.0, False) for r in requests]


def make(sums, *, seed=0, **more) -> EvalTask:
    return load_tasks({"sums": {**sums, **more}}, split_seed=seed)["sums"]


def test_global_random_state_is_neither_read_nor_written(sums):
    prompts = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        task = make(sums)
        prompts.append([task.prompt(item) for split in SPLITS for item in task.items(split)])
        task.aggregate(task.outcomes([(item, [Generation("#### 3", 3, False)]) for item in task.items("search")]))
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
    assert prompts[0] == prompts[1]


def test_scores(sums):
    task = make(sums, filter="flexible-extract")
    item = "test:3"  # what is 1003 plus 2?
    answers = [" #### 1005", " it is 1005", " #### 4", ""]
    outcomes = task.outcomes([(item, [Generation(text, 4, not text, seconds=0.5)]) for text in answers])
    assert [o.score for o in outcomes] == [1.0, 1.0, 0.0, 0.0]
    assert [o.strict for o in outcomes] == [1.0, 0.0, 0.0, 0.0]
    assert [o.flexible for o in outcomes] == [1.0, 1.0, 0.0, 0.0]
    assert outcomes[3].truncated
    assert (outcomes[0].task, outcomes[0].item, outcomes[0].tokens, outcomes[0].seconds) == ("sums", item, 4, 0.5)
    assert outcomes[0].weight == 1.0
    assert task.aggregate(outcomes) == 0.5
    assert task.outcomes([]) == []
    assert outcomes[0].prompt_hash == task.prompt_hash(item)
    assert make(sums).filter == "strict-match"  # the task's first


def test_smaller_is_better_is_turned(sums, tmp_path):
    content = yaml.safe_load(Path(sums["task"]).read_text())
    content["metric_list"][0]["higher_is_better"] = False
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(content))
    task = make(sums, task=str(tmp_path / "x.yaml"))
    assert not task.higher_is_better
    assert task.outcomes([("test:3", [Generation("#### 1005", 1, False)])])[0].score == -1.0
    wrong, right = task.outcomes([("test:3", [Generation(text, 1, False)]) for text in ("#### 1", "#### 1005")])
    assert task.aggregate([wrong, right, right]) == pytest.approx(2 / 3)  # the metric's own direction
    assert str(wrong.score) == str(task.aggregate([wrong])) == "0.0"  # no negative zero


def test_settings_name_what_shapes_an_answer_and_what_a_score(sums):
    base = make(sums)
    assert base.generation_settings == {
        "request": "generate_until",
        "options": {"until": ["\n"], "do_sample": False, "max_gen_toks": 12},
    }
    same = make(sums, num_fewshot=1)  # is in the prompt
    assert (base.generation_settings, base.scoring_settings) == (same.generation_settings, same.scoring_settings)
    other = make(sums, filter="flexible-extract")
    assert base.generation_settings == other.generation_settings
    assert base.scoring_settings != other.scoring_settings
    for change in ({"max_gen_toks": 5}, {"generation": {"until": ["x"]}}):
        other = make(sums, **change)
        assert base.generation_settings != other.generation_settings
        assert base.scoring_settings == other.scoring_settings


def test_a_corrected_answer_is_scored_anew(sums, tmp_path):
    path = tmp_path / "test.jsonl"
    seen = set()
    for answer in ("#### 1", "#### 2"):
        path.write_text(json.dumps({"question": "what?", "answer": answer}) + "\n")
        task = make(sums, data_files={**sums["data_files"], "test": str(path)})
        seen.add((task.prompt_hash("test:0"), task.scoring_settings))
    assert len({prompt for prompt, _ in seen}) == 1
    assert len({scoring for _, scoring in seen}) == 2


def test_what_prompts_begin_with(sums, choice):
    assert make(sums).prefix == "Question: what is "  # the examples are drawn item by item
    fixed = make(sums, task=with_lines(sums, "fewshot_config: {sampler: first_n}"), splits=FROM_TRAIN)
    assert fixed.prefix.count("Answer: ####") == 2
    assert all(fixed.prompt(item).startswith(fixed.prefix) for item in fixed.items("search"))
    assert load_tasks(choice)["choice"].prefix == "Question: what is "  # in spite of choices without a context
    assert load_tasks({"r": {"task": str(Path(choice["choice"]["task"]).with_name("rolling.yaml"))}})["r"].prefix == ""


def test_prompt_hash_of_choices(choice):
    task = load_tasks(choice)["choice"]
    requests = task.requests(["test:3"])["test:3"]
    assert [request.idx for request in requests] == list(range(6))
    pairs = json.dumps([list(request.args) for request in requests])
    assert task.prompt_hash("test:3") == hashlib.sha256(pairs.encode()).hexdigest()[:16]
    assert task.prompt("test:3") == requests[0].args[0]
    plain = load_tasks({"r": {"task": str(Path(choice["choice"]["task"]).with_name("rolling.yaml"))}})["r"]
    pairs = json.dumps([["", plain.prompt("test:3")]])
    assert plain.prompt_hash("test:3") == hashlib.sha256(pairs.encode()).hexdigest()[:16]


def test_choices_are_scored_from_likelihoods(choice):
    task = load_tasks(choice)["choice"]  # question 3: the first of three choices is right
    alone = [Likelihood(-1.0, False, 2)] * 3
    outcomes = task.outcomes(
        [
            ("test:2", [Likelihood(x, False, 2, 0.25) for x in (-1.0, -2.0, -3.0)] + alone),
            ("test:2", [Likelihood(x, False, 2, 0.25) for x in (-3.0, -2.0, -1.0)] + alone),
        ]
    )
    assert [outcome.score for outcome in outcomes] == [1.0, 0.0]
    assert json.loads(outcomes[0].answer) == [[x, False] for x in (-1.0, -2.0, -3.0, -1.0, -1.0, -1.0)]
    assert (outcomes[0].tokens, outcomes[0].seconds, outcomes[0].truncated) == (12, 0.75, False)
    assert task.outcomes([(o.item, text_to_responses(o, likelihood=True)) for o in outcomes])[1].score == 0.0
    assert task.generation_settings == {"request": "loglikelihood", "options": {}}


def test_likelihoods_of_a_broken_model(local):
    choice = load_tasks({"choice": local["choice"]})["choice"]
    with pytest.raises(
        CandidateError, match="task choice: the likelihoods that the model gives for item test:0 are NaN"
    ):
        choice.outcomes([("test:0", [Likelihood(math.nan, False)] * 6)])
    text = load_tasks({"rolling": local["rolling"]})["rolling"]
    with pytest.raises(CandidateError, match="'word_perplexity' is -inf for item test:0"):
        text.outcomes([("test:0", [Likelihood(-math.inf, False)])])
    assert text.aggregate(text.outcomes([("test:0", [Likelihood(-1e5, False)])])) == math.inf


def test_longest_answer_by_default(sums):
    def longest(*lines, **keys):
        task = make(sums, task=with_lines(sums, *lines), **keys)
        options = task.generation_settings["options"]
        assert task.requests(["test:0"])["test:0"][0].args[1] == options
        return {key: value for key, value in options.items() if "tok" in key}

    until = 'generation_kwargs: {until: ["x"]}'
    assert longest(until) == {"max_gen_toks": 512}
    assert longest("generation_kwargs: null") == {"max_gen_toks": 512}
    assert longest("generation_kwargs: {max_new_tokens: 7}") == {"max_new_tokens": 7}
    assert longest("generation_kwargs: {max_new_tokens: 7}", max_gen_toks=9) == {"max_gen_toks": 9}
    assert longest("generation_kwargs: {max_new_tokens: 7}", generation={"max_tokens": 8}) == {
        "max_new_tokens": 7,
        "max_tokens": 8,
    }


def test_several_counts_of_examples(sums):
    tasks = load_tasks({"sums": {**sums, "num_fewshot": [0, 2]}, "other": dict(sums)})
    assert list(tasks) == ["sums-0shot", "sums-2shot", "other"]
    assert [task.prompt("test:0").count("Question") for task in tasks.values()] == [1, 3, 3]
    assert tasks["sums-2shot"].prompt("test:0") == tasks["other"].prompt("test:0")


def test_a_group_is_one_objective(exam):
    task = load_tasks({"exam": exam})["exam"]
    assert task.items("report", in_file_order=True) == (
        *(f"exam_a/test:{i}" for i in range(9)),
        *(f"exam_b/test:{i}" for i in range(21)),
    )
    first = [item.partition("/")[0] for item in task.items("search")[:40]]
    assert 8 < first.count("exam_a") < 32  # a random subset of all
    items = [item for split in SPLITS for item in task.items(split)]
    assert len(items) == len(set(items))
    for item in ("test:0", "exam_c/test:0", "exam_a/test:9"):
        with pytest.raises(UsageError, match="there is no item"):
            task.requests([item])
    part = task.outcomes([("exam_b/test:0", right(task, "exam_b/test:0"))])
    assert task.aggregate(part) == 1.0  # of what was scored
    assert part[0].weight == 1.0


def test_a_group_whose_tasks_count_alike(exam):
    task = load_tasks({"exam": {**exam, "metric": "acc_norm"}})["exam"]
    items = ("exam_a/test:0", "exam_b/test:0")
    weights = [outcome.weight for outcome in task.outcomes([(item, right(task, item)) for item in items])]
    assert weights == [15 / 9, 15 / 21]


@pytest.mark.parametrize(
    ("member", "content", "words"),
    [
        ("strange", "include: bleu.yaml\ntask: strange\n", "kind of request (loglikelihood and generate_until)"),
        ("strange", "include: exam_a.yaml\ntask: strange\n" + NO_ACC, "task g, strange: no metric 'acc'"),
        ("strange", "include: exam_a.yaml\ntask: strange\n" + TURNED, "differ in their direction of acc (True and F"),
        ("{task: fresh, dataset_path: x}", "", "cannot be loaded"),
    ],
)
def test_a_group_of_unlike_tasks(exam, member, content, words):
    folder = Path(exam["task"]).parent
    (folder / "strange.yaml").write_text(content)
    (folder / "g.yaml").write_text(f"group: g\ntask: [exam_a, {member}]\n")
    with pytest.raises(UsageError) as caught:
        load_tasks({"g": {"task": str(folder / "g.yaml"), "metric": "acc"}})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_language_of_mgsm_as_one_objective(tmp_path):
    """A tag of lm-eval, its data sets in local files."""
    for subset in ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh"):
        for split in ("train", "test"):
            row = {"question": f"{subset}?", "answer": None, "answer_number": 5}
            (tmp_path / f"{subset}_{split}.jsonl").write_text(json.dumps(row) + "\n")
    files = {split: str(tmp_path / ("{subset}_" + f"{split}.jsonl")) for split in ("train", "test")}
    task = load_tasks({"m": {"task": "mgsm_direct", "data_files": files, "filter": "flexible-extract"}})["m"]
    assert len(task.items("report")) == 11
    assert task.prompt("mgsm_direct_de/test:0") == "Frage: de?\nAntwort:"
    assert set(task.generation_settings["options"]["subtasks"]) == {i.split("/")[0] for i in task.items("report")}
    answers = [(item, [Generation("5" if "_de/" in item else "6", 1, False)]) for item in task.items("report")]
    assert task.aggregate(task.outcomes(answers)) == pytest.approx(1 / 11)


def test_mmlu_from_local_files(tmp_path):
    """A group of groups of tags; 57 data sets."""
    for split, count in (("dev", 5), ("validation", 2), ("test", 3)):
        rows = [{"question": f"{split}{i}?", "choices": ["w", "x", "y", "z"], "answer": 1} for i in range(count)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {split: str(tmp_path / f"{split}.jsonl") for split in ("dev", "validation", "test")}
    task = load_tasks({"mmlu": {**find_task_config("mmlu")["mmlu"], "data_files": files}})["mmlu"]
    assert len(task.items("report")) == 57 * 3
    assert len(task.items("search")) + len(task.items("selection")) == 57 * 2
    requests = task.requests(["mmlu_anatomy/test:0"])["mmlu_anatomy/test:0"]
    assert [request.args[1] for request in requests] == [" A", " B", " C", " D"]
    assert (
        requests[0].args[0].startswith("The following are multiple choice questions (with answers) about anatomy.\n\n")
    )
    assert requests[0].args[0].count("Answer:") == 6
    assert task.prefix == "The following are multiple choice questions (with answers) about "


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metric": "exact_mach"}, "no metric 'exact_mach'; did you mean 'exact_match'?"),
        ({"filter": "strict"}, "no filter 'strict'; did you mean 'strict-match'?"),
        ({"splits": {"search": "trian"}}, "no dataset split 'trian'; did you mean 'train'?"),
        ({"fewshot": "trian"}, "no dataset split 'trian'"),
        ({"generation": {"do_sample": True}}, "it samples answers"),
        ({"generation": {"do_sample": None, "temperature": 0.5}}, "it samples answers"),
        ({"metric": "answer_length", "filter": "strict"}, "no filter 'strict'"),
    ],
)
def test_refused(sums, change, words):
    with pytest.raises(UsageError) as caught:
        make(sums, **change)
    assert words in str(caught.value)
    assert str(caught.value).startswith("task sums")


def test_corpus_metrics(sums):
    lines = "metric_list: [{metric: bleu, aggregation: bleu, higher_is_better: true}]"
    task = make(sums, task=with_lines(sums, lines, "filter_list: null"))
    texts = {"test:3": "#### 1005", "test:4": "#### 1008 it is", "test:5": ""}
    outcomes = task.outcomes([(item, [Generation(text, 1, False)]) for item, text in texts.items()])
    docs = {item: task.requests([item])[item][0].doc["answer"] for item in texts}
    alone = [sacrebleu.corpus_bleu([texts[item]], [[docs[item]]]).score for item in texts]
    assert [outcome.score for outcome in outcomes] == alone
    assert alone[0] > alone[1] > alone[2]
    together = sacrebleu.corpus_bleu(list(texts.values()), [list(docs.values())]).score
    assert task.aggregate(outcomes) == together != pytest.approx(np.mean(alone))


def test_metric_that_is_undefined_for_one_item(choice):
    folder = Path(choice["choice"]["task"]).parent
    for metric in ("f1", "mcc"):
        lines = f"metric_list: [{{metric: acc}}, {{metric: {metric}}}]\n"
        (folder / "two.yaml").write_text(f"include: {folder / 'choice.yaml'}\ntask: two\n{lines}")
        assert load_tasks({"t": {"task": str(folder / "two.yaml")}})["t"].metric == "acc"
        with pytest.raises(UsageError, match=f"task t: metric '{metric}' is undefined for a single item"):
            load_tasks({"t": {"task": str(folder / "two.yaml"), "metric": metric}})


def test_metric_without_a_value_an_item(sums):
    content = yaml.safe_load(Path(sums["task"]).read_text())["metric_list"]
    helper = Path(sums["task"]).with_name("helper.py")
    helper.write_text("def score(doc, results):\n    return {'exact_match': 'yes'} if '5' in doc['answer'] else {}\n")
    path = with_lines(sums, f"metric_list: {json.dumps(content)}", "process_results: !function helper.score")
    task = make(sums, task=path)
    for item in ("test:3", "test:7"):
        with pytest.raises(UsageError, match="task sums: metric 'exact_match' has no value for a single item"):
            task.outcomes([(item, [Generation("x", 1, False)])])


def test_metric_that_fails_or_is_not_finite(sums):
    helper = Path(sums["task"]).with_name("helper2.py")
    helper.write_text(
        "def nan(doc, results):\n    return {'exact_match': float('nan')}\n"
        "def fails(doc, results):\n    return {'exact_match': 1 / 0}\n"
    )
    for function, words in (
        ("nan", "task sums: metric 'exact_match' is nan for item test:3"),
        ("fails", "task sums: item test:3 cannot be scored: ZeroDivisionError: division by zero"),
    ):
        task = make(sums, task=with_lines(sums, f"process_results: !function helper2.{function}"))
        with pytest.raises(WorkError, match=words):
            task.outcomes([("test:3", [Generation("x", 1, False)])])


def test_metrics_of_our_own(sums, tmp_path):
    answers = [("test:3", [Generation(" it is 1005", 4, False)]), ("test:4", [Generation(" #### 1", 6, False)])]
    task = make(sums, metric="answer_length")
    assert (task.metric, task.filter, task.higher_is_better) == ("answer_length", None, False)
    outcomes = task.outcomes(answers)
    assert [outcome.score for outcome in outcomes] == [-4.0, -6.0]
    assert outcomes[0].strict is outcomes[0].flexible is None
    assert task.aggregate(outcomes) == 5.0
    assert task.generation_settings == make(sums).generation_settings
    assert make(sums, metric="answer_length", higher_is_better=True).outcomes(answers)[0].score == 4.0

    (tmp_path / "mine.py").write_text(
        "def score(doc, answer):\n    return float(answer in doc['answer']) + 10 * len(answer)\n"
    )
    task = make(sums, metric=f"{tmp_path / 'mine.py'}:score")
    assert [outcome.score for outcome in task.outcomes(answers)] == [110.0, 70.0]  # the raw answer
    task = make(sums, metric=f"{tmp_path / 'mine.py'}:score", filter="flexible-extract")
    assert [outcome.score for outcome in task.outcomes(answers)] == [41.0, 11.0]  # what the filter extracts
    before = task.scoring_settings
    (tmp_path / "mine.py").write_text("def score(doc, answer):\n    return 1\n")
    assert make(sums, metric=f"{tmp_path / 'mine.py'}:score", filter="flexible-extract").scoring_settings != before


def test_metrics_of_our_own_need_answers(choice):
    with pytest.raises(
        UsageError, match="task choice: metric answer_length judges answers, but the task generates none"
    ):
        load_tasks({"choice": {**choice["choice"], "metric": "answer_length"}})


def test_own_metrics_run_no_code_unless_they_name_a_filter_that_does():
    config = find_task_config("zoo_code")["zoo_code"]
    assert load_tasks({"t": config})["t"].unsafe_code
    task = load_tasks({"t": {**config, "metric": "answer_length", "filter": None}})["t"]
    assert not task.unsafe_code
    item = task.items("report")[0]
    assert task.outcomes([(item, [Generation("x", 9, False)])])[0].score == -9.0
    assert load_tasks({"t": {**config, "metric": "answer_length", "filter": "sandbox"}})["t"].unsafe_code


def test_data_on_top_of_the_configuration(sums):
    files = sums["data_files"]
    tasks = load_tasks({"sums": {"task": sums["task"]}}, data={f"sums.{split}": path for split, path in files.items()})
    assert len(tasks["sums"].items("report")) == 30
    with pytest.raises(UsageError, match="no such task; did you mean 'sums'"):
        load_tasks({"sums": dict(sums)}, data={"sum.train": "x"})


def test_configurations_by_name(sums):
    assert set(find_task_config("zoo")) == {"zoo_math", "zoo_code", "zoo_translate"}
    assert find_task_config("zoo_math")["zoo_math"]["task"] == "zoo_math"
    assert find_task_config("gsm8k")["gsm8k"]["filter"] == "flexible-extract"
    assert find_task_config("gsm8k_cot_zeroshot") == {"gsm8k_cot_zeroshot": {"task": "gsm8k_cot_zeroshot"}}
    assert find_task_config("mgsm_direct") == {"mgsm_direct": {"task": "mgsm_direct"}}  # a tag
    assert find_task_config(sums["task"]) == {"sums": {"task": sums["task"]}}
    with pytest.raises(UsageError, match="unknown task 'zoo_mth'"):
        find_task_config("zoo_mth")


def test_every_shipped_configuration_is_valid():
    for name in ("zoo", "gsm8k", "mbpp"):
        for task, config in find_task_config(name).items():
            assert TaskSpec.from_dict(task, config).name == task


def test_zoo_tasks_follow_the_training_format():
    from evomerge.zoo.prompts import FORMATS

    for name, task in load_tasks(find_task_config("zoo")).items():
        form = FORMATS[name.removeprefix("zoo_")]
        assert len(task.items("report")) == 600
        right = []
        for item in task.items("search")[:20]:
            (request,) = task.requests([item])[item]
            assert task.prompt(item) == form.prompt(request.doc)
            right.append((item, [Generation(form.target(request.doc), 1, False)]))
        options = task.generation_settings["options"]
        assert tuple(options["until"]) == form.stop
        assert options["max_gen_toks"] == form.max_tokens
        assert [outcome.score for outcome in task.outcomes(right)] == [1.0] * 20
        wrong = task.outcomes([(item, [Generation("7", 1, False)]) for item, _ in right])
        assert [outcome.score for outcome in wrong] == [0.0] * 20


@pytest.mark.slow
def test_real_mbpp(real_data):
    config = find_task_config("mbpp")
    task = load_tasks(config, data={"mbpp": str(real_data / "mbpp" / "mbpp.jsonl")})["mbpp"]
    docs = {split: [task.requests([i])[i][0].doc for i in task.items(split)] for split in SPLITS}
    ids = {split: {doc["task_id"] for doc in docs[split]} for split in SPLITS}
    assert ids["report"] == set(range(11, 511))
    assert ids["search"] | ids["selection"] == set(range(511, 975))
    assert not ids["search"] & ids["selection"]
    items = task.items("selection")[:40]
    right = [(item, [Generation(task.requests([item])[item][0].doc["code"], 1, False)]) for item in items]
    assert sum(outcome.score for outcome in task.outcomes(right)) >= 39
