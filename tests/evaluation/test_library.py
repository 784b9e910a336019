import json
import time

import pytest

from evomerge.errors import UsageError
from evomerge.evaluation.library import OWN_TASKS, STOCK_TASKS, build, find_yaml
from evomerge.evaluation.spec import TaskSpec


def test_finds_tasks_by_name(tmp_path):
    assert find_yaml("gsm8k") == STOCK_TASKS / "gsm8k" / "gsm8k.yaml"
    assert find_yaml("gsm8k_cot") == STOCK_TASKS / "gsm8k" / "gsm8k-cot.yaml"
    assert find_yaml("mbpp") == OWN_TASKS / "mbpp.yaml"  # ours goes before lm-eval's
    path = tmp_path / "x.yaml"
    path.write_text("task: x")
    assert find_yaml(str(path)) == path


def test_finding_is_quick():
    find_yaml("gsm8k")
    start = time.monotonic()
    find_yaml("arc_easy")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("gsm9k", "unknown task 'gsm9k'; did you mean 'gsm8k'?"),
        ("qqqqqqq", "unknown task 'qqqqqqq'; `lm_eval ls tasks`"),
        ("mmlu", "'mmlu' is a group of tasks"),
        ("humaneval", "outside the sandbox"),
        ("arc_easy", "scored by likelihood"),
        ("nowhere/x.yaml", "task file nowhere/x.yaml does not exist"),
        ("gsm8k", "cannot be loaded"),  # its data set is on the hub, which tests do not reach
    ],
)
def test_refused(task, words):
    with pytest.raises(UsageError) as caught:
        build(TaskSpec("t", task))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("- a\n- b", "is not a task file"),
        ("task: [a, b]", "does not define one task"),
        ("task: x\ndataset_path: json\nfilter_list: [{}]", "cannot be loaded"),
        ("task: x\ninclude: other.yaml", "is not a task file"),
    ],
)
def test_bad_task_files(tmp_path, yaml, words):
    (tmp_path / "x.yaml").write_text(yaml)
    with pytest.raises(UsageError, match=words):
        build(TaskSpec("t", str(tmp_path / "x.yaml")))


def test_missing_data_file(tmp_path, sums):
    files = {**sums["data_files"], "test": str(tmp_path / "none.jsonl")}
    with pytest.raises(UsageError, match=r"task t: data file .*none.jsonl does not exist"):
        build(TaskSpec("t", sums["task"], data_files=files))


def test_data_without_a_needed_field(tmp_path, sums):
    (tmp_path / "x.jsonl").write_text(json.dumps({"quest": "?"}) + "\n")
    with pytest.raises(UsageError, match="task t: it cannot be loaded: UndefinedError: 'question' is undefined"):
        build(
            TaskSpec(
                "t", sums["task"], data_files={"train": str(tmp_path / "x.jsonl"), "test": str(tmp_path / "x.jsonl")}
            )
        )


def test_overrides(sums):
    spec = TaskSpec(
        "t", sums["task"], data_files=sums["data_files"], num_fewshot=0, max_gen_toks=5, generation={"until": ["x"]}
    )
    config = build(spec).config
    assert config.num_fewshot == 0
    assert config.generation_kwargs == {"until": ["x"], "do_sample": False, "max_gen_toks": 5}
