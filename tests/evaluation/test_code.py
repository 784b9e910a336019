import ast
from pathlib import Path

import datasets
import pytest
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.evaluation import code
from evomerge.evaluation.library import STOCK_TASKS, build
from evomerge.evaluation.sandbox import Program
from evomerge.evaluation.spec import TaskSpec
from tests.evaluation import suites

MBPP = {"test_list": ["assert f(1) == 2", "assert f(2) == 3", "assert f(3) == 4", "assert f(4) == 0"]}
HUMANEVAL = {
    "prompt": 'def twice(x):\n    """Return x times two."""\n',
    "test": "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(-1) == -2\n",
    "entry_point": "twice",
}


def test_programs():
    assert code.mbpp_program("def f(x): return x + 1", MBPP) == Program(
        code="def f(x): return x + 1", tests="assert f(1) == 2\nassert f(2) == 3\nassert f(3) == 4"
    )
    assert code.humaneval_program("    return 2 * x", HUMANEVAL) == Program(
        code=HUMANEVAL["prompt"] + "    return 2 * x", tests=HUMANEVAL["test"] + "\ncheck(twice)"
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("def f():\n    return 1\n```\nThis is it.", "def f():\n    return 1\n"),
        ("def f():\n    return 1", "def f():\n    return 1"),  # cut off, or ended by the model without a fence
        ("```python\ndef f():\n    return 1\n```\n", "def f():\n    return 1\n"),  # opens a block of its own
        ("\n```\nx = 1\n```", "x = 1\n"),
        ("import os\n```\n```python\ny = 2\n```", "import os\n"),
        ("```", ""),
        ("", ""),
    ],
)
def test_code_of_block(answer, expected):
    assert code.code_of_block(answer) == expected


def test_verdicts_and_scores():
    answers = [["def f(x): return x + 1"], ["def f(x): return 2"], ["f = ("]]
    verdicts = code.run_mbpp(answers, [MBPP] * 3)
    assert verdicts == [["passed"], ["failed: AssertionError"], ["failed: SyntaxError"]]
    assert [code.score_verdict(MBPP, row)["pass_at_1"] for row in verdicts] == [1.0, 0.0, 0.0]


def test_each_task_makes_its_own_program():
    assert code.run_humaneval([["    return 2 * x"], ["    return x"]], [HUMANEVAL] * 2) == [
        ["passed"],
        ["failed: AssertionError"],
    ]
    fenced = [["    return 2 * x\n```\nIt doubles."], ["```\n    return 2 * x"]]
    assert [row == ["passed"] for row in code.run_humaneval_instruct(fenced, [HUMANEVAL] * 2)] == [True, False]
    assert code.run_mbpp_instruct([["def f(x):\n    return x + 1\n```\n"]], [MBPP]) == [["passed"]]


def test_no_answers():
    assert code.run_mbpp([], []) == []


def literal(path: Path, function: str):
    """What a function in a file returns, without importing the file."""
    (found,) = (n for n in ast.parse(path.read_text()).body if isinstance(n, ast.FunctionDef) and n.name == function)
    assert isinstance(found.body[-1], ast.Return)
    return ast.literal_eval(found.body[-1].value)


def stock_task(file: str, data: dict) -> ConfigurableTask:
    """lm-eval's own task on our rows; its metric, which it would fetch, is replaced, and so are the examples' function
    and the filters, which lie in the file that fetches it."""
    path = STOCK_TASKS / file
    config = load_yaml(path, resolve_func=False)
    config["metric_list"] = [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}]
    config["custom_dataset"] = lambda **_: datasets.DatasetDict(data)
    config.pop("filter_list", None)
    if "fewshot_config" in config:
        samples = literal(path.parent / "utils.py", "list_fewshot_samples")
        config["fewshot_config"] = {**config["fewshot_config"], "samples": samples}
    return ConfigurableTask(config=config)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("mbpp", "mbpp/mbpp.yaml"),
        ("mbpp_instruct", "mbpp/mbpp_instruct.yaml"),
        ("humaneval", "humaneval/humaneval.yaml"),
        ("humaneval_instruct", "humaneval/humaneval_instruct.yaml"),
    ],
)
def test_prompts_are_the_harness_own(tmp_path, ours, theirs):
    # lm-eval has the examples of MBPP in its own file; here they are read from the data, so the data must hold them.
    shots = literal(STOCK_TASKS / "mbpp" / "utils.py", "list_fewshot_samples")
    rows = suites.mbpp_rows()
    rows = [next((shot for shot in shots if shot["task_id"] == row["task_id"]), row) for row in rows]
    for row in rows:
        row.pop("is_fewshot", None)
    files = suites.write(tmp_path, {"data": rows if ours.startswith("mbpp") else suites.humaneval_rows()})
    (task,) = build(TaskSpec(ours, ours, data_files=files["data"]))[0].values()
    stock = stock_task(theirs, {"test": task.dataset["test"]})
    for one in (task, stock):
        one.set_fewshot_seed(1234)
        one.build_all_requests()
    assert len(task.instances) == len(stock.instances) > 2
    for mine, his in zip(task.instances, stock.instances, strict=True):
        assert mine.args[0] == his.args[0]
        assert mine.args[1] == {"max_gen_toks": 512, **his.args[1]}  # where theirs has no limit, lm-eval's is 256
        assert task.doc_to_target(mine.doc) == stock.doc_to_target(his.doc)
