import json
import sys
import time
from pathlib import Path

import lm_eval.utils
import pytest
from lm_eval.tasks._index import Kind

from evomerge.errors import UsageError
from evomerge.evaluation.library import OWN_TASKS, STOCK_TASKS, build, find
from evomerge.evaluation.spec import TaskSpec
from tests.evaluation.local_tasks import write_tasks


def test_finds_tasks_by_name(tmp_path):
    assert find("gsm8k").yaml_path == STOCK_TASKS / "gsm8k" / "gsm8k.yaml"
    assert find("gsm8k_cot").yaml_path == STOCK_TASKS / "gsm8k" / "gsm8k-cot.yaml"
    assert find("mmlu_anatomy").yaml_path == STOCK_TASKS / "mmlu" / "default" / "mmlu_anatomy.yaml"
    assert find("mbpp").yaml_path == OWN_TASKS / "mbpp.yaml"  # ours goes before lm-eval's
    path = tmp_path / "x.yaml"
    path.write_text("task: x")
    assert find(str(path)).yaml_path == path


def test_finds_groups_and_tags():
    assert find("mmlu").kind is Kind.GROUP
    assert find("mgsm_direct").kind is Kind.TAG
    assert {"mgsm_direct_de", "mgsm_direct_zh"} < find("mgsm_direct").tags  # the tag is in a file that they include
    assert find("multiple_choice").tags == {"darijahellaswag", "egyhellaswag", "hellaswag"}  # in three folders


def test_finding_is_quick():
    find("gsm8k")
    start = time.monotonic()
    find("arc_easy")
    find("mmlu")
    assert time.monotonic() - start < 4


def test_a_group_and_its_neighbours(tmp_path):
    keys = write_tasks(tmp_path)["exam"]
    (tmp_path / "broken.yaml").write_text("task: [")
    tasks, group = build(TaskSpec("t", keys["task"], num_fewshot=1))
    assert list(tasks) == ["exam_a", "exam_b"]  # the second by its tag
    assert group is not None
    assert group.name == "exam"
    assert {task.config.num_fewshot for task in tasks.values()} == {1}


def test_files_of_each_subtask(tmp_path):
    keys = write_tasks(tmp_path)["exam"]
    for name in ("exam_a", "exam_b"):
        (tmp_path / f"None_{name}.jsonl").write_text((tmp_path / f"{name}_test.jsonl").read_text())
    files = {"train": str(tmp_path / "exam_a_train.jsonl"), "test": str(tmp_path / "{subset}_{task}.jsonl")}
    tasks, _ = build(TaskSpec("t", keys["task"], data_files=files))
    assert [len(task.dataset["test"]) for task in tasks.values()] == [9, 21]


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ("gsm9k", "unknown task 'gsm9k'; did you mean 'gsm8k'?"),
        ("qqqqqqq", "unknown task 'qqqqqqq'; `lm_eval ls tasks`"),
        ("mmlu_anatomi", "unknown task 'mmlu_anatomi'; did you mean 'mmlu_anatomy'?"),
        ("humaneval_plus", "lm-eval's 'humaneval_plus' would run generated code outside the sandbox; evomerge's own"),
        ("squadv2", "lm-eval's 'squadv2' is a Python class of its own and cannot be scored"),
        ("mmmu_val", "asks about pictures or sound"),
        ("mmlu", "cannot be loaded"),  # its data set is on the hub, which tests do not reach
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
        ("task: [a, b]", "does not define one task or group"),
        ("group: g\ntask: [no_such_task_anywhere]", "cannot be loaded"),
        ("group: g\ntask: []", "the group 'g' has no tasks"),
        ("task: x\ndataset_path: json\nfilter_list: [{}]", "cannot be loaded"),
        ("task: x\ninclude: other.yaml", "is not a task file"),
    ],
)
def test_bad_task_files(tmp_path, yaml, words, monkeypatch):
    monkeypatch.chdir(tmp_path)  # datasets looks for files of a kind in the whole current directory
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
    tasks, group = build(spec)
    assert group is None
    config = tasks["sums"].config
    assert config.num_fewshot == 0
    assert config.generation_kwargs == {"until": ["x"], "do_sample": False, "max_gen_toks": 5}


def test_likelihood_tasks_generate_nothing(tmp_path):
    choice = write_tasks(tmp_path)["choice"]["task"]
    for options in ({"max_gen_toks": 5}, {"generation": {"until": ["x"]}}):
        with pytest.raises(UsageError, match="task t: it is scored by likelihood and generates nothing; leave out"):
            build(TaskSpec("t", choice, **options))


def test_only_the_files_that_are_needed(sums):
    files = {"test": sums["data_files"]["test"]}
    tasks, _ = build(TaskSpec("t", sums["task"], data_files=files, num_fewshot=0))
    assert list(tasks["sums"].dataset) == ["test"]
    with pytest.raises(UsageError, match="task t: its examples come from 'train'; name a file for it in data_files"):
        build(TaskSpec("t", sums["task"], data_files=files))


def test_work_that_lm_eval_repeats_is_done_once(sums, tmp_path):
    (tmp_path / "helper.py").write_text("calls = []\ndef process(rows):\n    calls.append(rows)\n    return rows\n")
    text = Path(sums["task"]).read_text() + "process_docs: !function helper.process\n"
    (tmp_path / "x.yaml").write_text(text)
    tasks, _ = build(TaskSpec("t", str(tmp_path / "x.yaml"), data_files=sums["data_files"]))
    task = tasks["sums"]
    before = lm_eval.utils.env.from_string.cache_info().misses
    task.set_fewshot_seed(1)
    for doc in task.eval_docs:
        task.fewshot_context(doc, num_fewshot=2)
    assert lm_eval.utils.env.from_string.cache_info().misses - before <= 2
    calls = sys.modules[str(tmp_path / "helper")].calls
    assert [len(rows) for rows in calls] == [200, 30]


def test_a_task_inside_a_group_file(tmp_path):
    write_tasks(tmp_path)
    text = (tmp_path / "choice.yaml").read_text().replace("task: choice", "task: inner")
    lines = "\n".join("    " + line for line in text.splitlines() if line)
    (tmp_path / "g.yaml").write_text(f"group: g\ntask:\n  - exam_a\n  -\n{lines}\n")
    with pytest.raises(UsageError, match="task t: 'g' defines 'g::inner' in its own file; give that a file of its own"):
        build(TaskSpec("t", str(tmp_path / "g.yaml")))
