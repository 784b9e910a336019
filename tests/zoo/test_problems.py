"""The generators: same seed, same bytes; no key in two buckets; answers that are right."""

import ast
import itertools
import random
from pathlib import Path

import pytest

from evomerge.evaluation.data import read_rows
from evomerge.evaluation.sandbox import Program, Sandbox
from evomerge.zoo import SPLITS, TASKS, items_path
from evomerge.zoo.problems import MAKERS, bucket, distinct, stream
from evomerge.zoo.problems.arithmetic import Sheet
from evomerge.zoo.problems.files import SIZES, write_items


@pytest.mark.slow
def test_written_files_are_the_shipped_ones(tmp_path: Path) -> None:
    write_items(tmp_path)
    for task in TASKS:
        for split in SPLITS:
            assert (tmp_path / task / f"{split}.jsonl").read_bytes() == items_path(task, split).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_no_scored_key_comes_up_twice_or_in_training(task: str) -> None:
    # The shipped files are `distinct` of each split (test above), so these are their keys.
    shipped = [p.key for split in SPLITS for p in distinct(MAKERS[task], split, 1, SIZES[split])]
    assert len(shipped) == len(set(shipped)) == sum(SIZES.values())
    trained = {p.key for p in itertools.islice(stream(MAKERS[task], "train", 1), 5000)}
    assert not trained & set(shipped)
    assert all(bucket(key) == "train" for key in trained)


@pytest.mark.parametrize("task", TASKS)
def test_no_two_shipped_rows_are_equal(task: str) -> None:
    rows = [
        repr({k: v for k, v in row.items() if k != "task_id"}) for s in SPLITS for row in read_rows(items_path(task, s))
    ]
    assert len(rows) == len(set(rows))


@pytest.mark.parametrize("task", TASKS)
def test_streams_depend_on_the_seed_alone(task: str) -> None:
    def first(seed: int) -> list[str]:
        return [str(p.item) for p in itertools.islice(stream(MAKERS[task], "train", seed), 50)]

    random.seed(1)
    once = first(3)
    random.seed(2)
    assert once == first(3)
    assert once != first(4)


def test_every_step_of_a_word_problem_is_true_and_the_last_is_the_answer() -> None:
    for item in read_rows(items_path("math", "report")):
        *steps, last = item["answer"].split("\n")
        for step in steps:
            left, right = step.split("=")
            tree = ast.parse(left, mode="eval").body
            assert isinstance(tree, ast.BinOp)
            a, b = ast.literal_eval(tree.left), ast.literal_eval(tree.right)
            value = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b, ast.Div: a / b}[type(tree.op)]
            assert value == int(right)
        assert last == f"#### {steps[-1].split('=')[1]}"
        assert 2 <= len(steps) <= 5


def test_keys_of_sums_and_products_ignore_the_order() -> None:
    sheet = Sheet()
    a, b, c = (sheet.given(n) for n in (3, 14, 5))
    assert sheet.add(sheet.mul(a, c), b).form == sheet.add(b, sheet.mul(c, a)).form
    assert sheet.sub(sheet.add(a, b), c).form == sheet.add(sheet.sub(b, c), a).form
    assert sheet.sub(b, c).form != sheet.sub(c, b).form
    assert sheet.mul(sheet.add(a, b), c).form != sheet.add(a, sheet.mul(b, c)).form


@pytest.mark.slow
def test_every_shipped_function_passes_its_asserts_and_a_broken_one_fails() -> None:
    items = read_rows(items_path("code", "report"))
    good = [Program(item["code"], "\n".join(item["test_list"])) for item in items]
    broken = [Program(program.code.replace("return ", "return 1, "), program.tests) for program in good[:20]]
    with Sandbox() as sandbox:
        assert all(sandbox.run(good))
        assert not any(sandbox.run(broken))


def test_koro_follows_its_grammar() -> None:
    rows = [row for split in SPLITS for row in read_rows(items_path("translate", split))]
    for row in rows:
        words = row["target"].split()
        assert (row["source"][-1] == "?") == (words[-1] == "ka")
        verb = words[-2] if words[-1] == "ka" else words[-1]
        stem = verb.removesuffix("mi").removesuffix("mu")
        tense = "o" if "will" in row["source"].lower() else "e" if row["source"].startswith("Did") else None
        assert stem[-1] in "eio" if tense is None else stem[-1] == tense
        assert (" not " in row["source"]) == verb.startswith("ne")
        plural_subject = verb != stem
        assert verb.endswith({"e": "mi", "i": "mi", "o": "mu"}[stem[-1]]) == plural_subject


def test_koro_has_one_translation_a_sentence() -> None:
    targets: dict[str, set[str]] = {}
    for problem in itertools.islice(stream(MAKERS["translate"], "train", 1), 20000):
        targets.setdefault(problem.item["source"], set()).add(problem.item["target"])
    assert all(len(found) == 1 for found in targets.values())
