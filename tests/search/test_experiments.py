"""The ready experiments: each composes, says what it is, fits the real models' tensors, and finds its tasks' items.

The models themselves are not here: their tensors come from `models.shape`, built on the meta device, and their tasks
read a few made-up rows in the format of the real data.
"""

import json
import re

import pytest
from transformers import AutoTokenizer

from evomerge.config import conf_dir
from evomerge.evaluation import load_tasks
from evomerge.evaluation.chat import chat_from
from evomerge.evaluation.types import SPLITS
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig
from evomerge.search.opening import spaces_of
from evomerge.search.plan.shape import Shape
from evomerge.zoo import model_path
from tests.search.test_config import composed, options

#: Weights of each model in units of 1,000: what its own checkpoint counts. Qwen2.5-0.5B's is printed in full in public
#: logs (494,032,768); the others agree with the sizes that their makers publish, which have two or three digits.
WEIGHTS = {
    "japanese_math": 7_241_732,
    "mergebench_gemma_2_2b": 2_614_342,
    "mergebench_gemma_2_9b": 9_241_706,
    "mergebench_llama_3_1_8b": 8_030_261,
    "mergebench_llama_3_2_3b": 3_212_750,
    "qwen2_5_0_5b": 494_033,
    "qwen2_5_1_5b": 1_543_714,
    "sip_bmm": 4_022_468,
    "wizard_trio": 13_015_864,
}
DIMENSIONS = {
    "japanese_math": 6,  # one weight and one density a model, as in the paper
    "sip_bmm": 37,  # 36 layers and the rest, as in their code
    "wizard_trio": 6,
    "qwen2_5_0_5b": 8,
    "qwen2_5_1_5b": 8,
}
ROWS = {
    "gsm8k": [{"question": f"How much is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(30)],
    "math500": [{"problem": f"How much is ${i}+1$?", "solution": f"$\\boxed{{{i + 1}}}$"} for i in range(30)],
    "mgsm_ja": [{"question": f"{i} + 1 は?", "answer": None, "answer_number": i + 1} for i in range(30)],
    "arc_fr": [
        {
            "id": str(i),
            "instruction": f"Combien font {i} + 1 ?",
            **{f"option_{letter}": str(i + j) for j, letter in enumerate("abcd")},
            "option_e": None,
            "answer": "B",
        }
        for i in range(30)
    ],
    "mbpp": [
        {
            "task_id": i,
            "text": f"Write a function that adds {i}.",
            "code": f"def f(x):\n    return x + {i}",
            "test_list": [f"assert f(1) == {i + 1}"] * 3,
            "test_setup_code": "",
            "challenge_test_list": [],
        }
        for i in [*range(1, 30), *range(500, 530), *range(595, 630)]
    ],
}
#: Tasks that read another one's rows.
SAME_ROWS = {"length": "math500", "japanese": "mgsm_ja"}


def texts(group, name):
    return (conf_dir() / group / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for task, rows in ROWS.items():
        (folder / f"{task}.jsonl").write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def chat():
    """A chat template such as instruction-tuned models have; the tokenizer does not matter for it."""
    tokenizer = AutoTokenizer.from_pretrained(model_path("base"))
    tokenizer.chat_template = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}<assistant>"
    return chat_from(tokenizer)


def test_every_experiment_and_every_pool_is_looked_at_here():
    assert set(options("experiment")) == {*WEIGHTS, "quickstart", "zoo120"}
    used = {re.search(r"override /models: (\S+)", texts("experiment", name))[1] for name in sorted(WEIGHTS)}
    assert used == set(options("models")) - {"zoo"}


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_it_cites_its_source_and_says_that_it_was_not_run(name):
    head = texts("experiment", name).split("defaults:")[0]
    assert re.search(r"arXiv \d{4}\.\d{5}|github\.com/\w+", head)
    assert "NOT RUN HERE" in head
    pool = re.search(r"override /models: (\S+)", texts("experiment", name))[1]
    head = texts("models", pool).split("base:")[0]
    assert re.search(r"arXiv \d{4}\.\d{5}", head)
    assert "Not run here" in head
    assert "Revisions" in head


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_models_are_hub_ids_with_a_revision(name):
    models = SearchConfig.from_dict(composed(f"experiment={name}")).models
    for reference in (models.base, *models.experts.values()):
        model, _, revision = reference.partition("@")
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", model)
        assert revision == "main" or re.fullmatch(r"[0-9a-f]{40}", revision)
    assert re.fullmatch(r"[0-9a-f]{40}", models.base.partition("@")[2])


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_its_space_is_built_over_the_real_tensors(name):
    config = SearchConfig.from_dict(composed(f"experiment={name}"))
    assert config.name == name
    assert config.models.shape is not None
    shape = Shape.of_config(config.models.shape, experts=len(config.models.experts), dtype=config.models.dtype)
    assert round(shape.parameters / 1000) == WEIGHTS[name]
    (stage,) = spaces_of(config, shape.layout)
    assert len(stage.space) == DIMENSIONS.get(name, len(config.models.experts))
    assert {d.expert for d in stage.space.dimensions} == set(config.models.experts)
    recipe = stage.space.recipe([0.5] * len(stage.space))
    for parameter in recipe.parameters:
        for expert in config.models.experts:
            assert all(isinstance(recipe.parameter(parameter, expert, t), float) for t in shape.layout.tensors)
    assert len(baselines(stage.space, config.baselines)) > 2 + len(config.models.experts)


@pytest.mark.parametrize("name", sorted(WEIGHTS))
def test_its_tasks_have_items_for_every_split_and_search_on_no_test_data(name, files, chat):
    data = composed(f"experiment={name}", "evaluation.allow_code_execution=false")
    local = {}
    for task, settings in data["tasks"].items():
        rows = str(files / f"{SAME_ROWS.get(task, task)}.jsonl")
        local |= {f"{task}.{split}": rows for split in ("train", "validation", "test")}
        assert not settings.get("search_on_test_data")
    tasks = load_tasks(data["tasks"], data=local, chat=chat)
    for task in tasks.values():
        items = {split: set(task.items(split)) for split in SPLITS}
        assert all(items.values())
        assert not items["search"] & items["selection"]
        assert all(task.requests(sorted(items["report"])).values())
        assert all(item.split(":")[0].endswith("test") for item in items["report"])
        assert not any(
            item.split(":")[0].endswith("test") for split in ("search", "selection") for item in items[split]
        )


def test_the_two_objectives_of_one_task_ask_the_same(files, chat):
    """Answers are generated once only where prompts and generation settings agree."""
    for name, pair in (("sip_bmm", ("math500", "length")), ("japanese_math", ("mgsm_ja", "japanese"))):
        data = composed(f"experiment={name}")
        rows = str(files / f"{pair[0]}.jsonl")
        local = {f"{task}.{split}": rows for task in pair for split in ("train", "test")}
        one, other = load_tasks(data["tasks"], data=local, chat=chat).values()
        assert one.items("search") == other.items("search")
        assert {one.prompt_hash(i) for i in one.items("search")} == {other.prompt_hash(i) for i in one.items("search")}
        assert one.generation_settings == other.generation_settings


def test_the_japanese_merge_has_the_papers_settings():
    config = SearchConfig.from_dict(composed("experiment=japanese_math"))
    assert (config.optimizer.name, config.optimizer.options["population"]) == ("cmaes", 9)
    assert config.optimizer.options["sigma0"] == pytest.approx(1 / 6)
    assert config.budget.candidates == 1000
    assert config.space["methods"] == ["dare_ties"]
