"""The shipped models: real transformers directories, one tokenizer, small, and able to read any text."""

import tomllib
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from evomerge.errors import UsageError
from evomerge.evaluation import Evaluator, TransformersBackend, find_task_config, load_model, load_tasks
from evomerge.evaluation.data import read_rows
from evomerge.zoo import MODELS, SPLITS, TASKS, items_path, model_path
from evomerge.zoo.prompts import FORMATS

TOKENIZER = AutoTokenizer.from_pretrained(model_path("base"))


@pytest.mark.parametrize("name", MODELS)
def test_model_is_bfloat16_small_and_finite(name: str) -> None:
    file = model_path(name) / "model.safetensors"
    assert file.stat().st_size < 8_000_000
    with safe_open(file, "pt") as opened:
        for key in opened.keys():  # noqa: SIM118
            tensor = opened.get_tensor(key)
            assert tensor.dtype == torch.bfloat16
            assert tensor.isfinite().all()


def test_models_share_their_tokenizer_and_config() -> None:
    for file in ("tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"):
        assert len({(model_path(name) / file).read_bytes() for name in MODELS}) == 1


@pytest.mark.parametrize("name", MODELS)
def test_a_model_names_the_licence_of_the_project(name: str) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    card = ModelCard.load(model_path(name) / "README.md")
    assert card.data.license == project["license"].lower()
    assert f"# zoo:{name}\n" in card.text


@settings(max_examples=300, deadline=None)
@given(st.text())
def test_any_text_comes_back_from_the_tokenizer(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_digits_stay_single_and_no_token_is_added() -> None:
    assert TOKENIZER.convert_ids_to_tokens(TOKENIZER("12345")["input_ids"]) == list("12345")
    assert TOKENIZER.padding_side == "left"
    assert TOKENIZER("")["input_ids"] == []


@pytest.mark.parametrize("task", TASKS)
def test_prompt_and_target_split_between_tokens(task: str) -> None:
    # Otherwise a prompt would end in a token that training never saw there.
    spec = FORMATS[task]
    for item in read_rows(items_path(task, "selection"))[:100]:
        prompt, target = spec.prompt(item), spec.target(item)
        whole = TOKENIZER(prompt + target)["input_ids"]
        assert whole == TOKENIZER(prompt)["input_ids"] + TOKENIZER(target)["input_ids"]
        assert len(TOKENIZER(target)["input_ids"]) < spec.max_tokens


def test_reads_a_prompt_of_4096_tokens() -> None:
    model = AutoModelForCausalLM.from_pretrained(model_path("base"), dtype=torch.float32)
    with torch.inference_mode():
        logits = model(torch.full((1, 4096), 300)).logits
    assert logits.isfinite().all()


@pytest.fixture(scope="module")
def tasks():
    return load_tasks(find_task_config("zoo"))


def test_the_prompts_of_training_are_those_of_the_tasks(tasks) -> None:
    for task in TASKS:
        rows = read_rows(items_path(task, "report"))
        wrapped = tasks[f"zoo_{task}"]
        for item in wrapped.items("report")[:50]:
            assert wrapped.prompt(item) == FORMATS[task].prompt(rows[int(item.rpartition(":")[2])])


@pytest.mark.parametrize("name", ["math", "code", "translate"])
def test_expert_is_better_than_the_base_at_its_own_task(tasks, name: str) -> None:
    items = tasks[f"zoo_{name}"].items("selection")[:60]
    right = {}
    for model_name in ("base", name):
        backend = TransformersBackend(*load_model(model_path(model_name)), batch_size=60)
        evaluator = Evaluator(tasks, backend, allow_code_execution=True)
        right[model_name] = sum(outcome.score for outcome in evaluator.score(f"zoo_{name}", items, model_name))
    assert right[name] >= right["base"] + 6


def test_unknown_names_are_refused_with_the_nearest() -> None:
    assert items_path("math", "report").is_file()
    assert isinstance(model_path("code"), Path)
    with pytest.raises(UsageError, match="did you mean 'translate'"):
        model_path("translte")
    with pytest.raises(UsageError, match="did you mean 'math'"):
        items_path("maths", SPLITS[0])
    with pytest.raises(UsageError, match="did you mean 'report'"):
        items_path("math", "reports")
