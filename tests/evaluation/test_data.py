import json

import pytest

from evomerge.errors import UsageError
from evomerge.evaluation import data
from evomerge.evaluation.data import (
    humaneval_dataset,
    local_dataset,
    math_dataset,
    math_shots,
    mbpp_dataset,
    mbpp_shots,
    read_rows,
    zoo_dataset,
)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_lines_and_lists(tmp_path):
    rows = [{"a": "x\u2028y", "b": [1, 2]}, {"a": "é", "b": []}]
    assert read_rows(write(tmp_path / "x.jsonl", rows)) == rows
    (tmp_path / "x.json").write_text(json.dumps(rows))
    assert read_rows(tmp_path / "x.json") == rows


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"", "holds no items"),
        (b'{"a": 1}\n{"a": ', "not JSON Lines"),
        (b"[1, 2]", "holds no items"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_bad_files(tmp_path, content, words):
    path = tmp_path / "x.jsonl"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=words):
        read_rows(path)


def test_local_dataset_needs_splits(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"a": 1}])
    assert local_dataset({"train": path})["train"][0] == {"a": 1}
    with pytest.raises(UsageError, match="a file for each split"):
        local_dataset(path)


def test_items_with_other_keys(tmp_path):
    rows = [{"a": 1}, {"b": "x", "a": 2}]
    assert list(local_dataset({"train": write(tmp_path / "x.jsonl", rows)})["train"]) == [
        {"a": 1, "b": None},
        {"a": 2, "b": "x"},
    ]


def test_items_of_several_kinds(tmp_path):
    path = write(tmp_path / "x.jsonl", [{"a": 1}, {"a": "x"}])
    with pytest.raises(UsageError, match=r"data files, train: a key has values of several kinds"):
        local_dataset({"train": path})


def test_zoo_items():
    assert {len(rows) for rows in zoo_dataset("math").values()} == {16, 400, 600}


def test_other_items_for_a_task_of_the_zoo(tmp_path):
    found = zoo_dataset("math", {"search": write(tmp_path / "a.jsonl", [{"question": "a", "answer": "#### 1"}])})
    assert {split: list(rows) for split, rows in found.items()} == {"search": [{"question": "a", "answer": "#### 1"}]}


def test_mbpp_is_divided_by_its_ids(tmp_path):
    rows = [{"task_id": i, "text": f"t{i}"} for i in range(1, 975)]
    data = mbpp_dataset(write(tmp_path / "mbpp.jsonl", rows))
    ids = {split: (rows["task_id"][0], rows["task_id"][-1]) for split, rows in data.items()}
    assert ids == {"prompt": (1, 10), "test": (11, 510), "validation": (511, 600), "train": (601, 974)}
    assert [shot["task_id"] for shot in mbpp_shots(data["prompt"])] == [2, 3, 4]


def test_mbpp_from_several_files(tmp_path):
    rows = [{"task_id": i} for i in range(1, 975)]
    files = {"test": write(tmp_path / "a.jsonl", rows[:500]), "train": write(tmp_path / "b.jsonl", rows[500:])}
    assert [len(mbpp_dataset(files)[s]) for s in ("train", "validation", "test")] == [374, 90, 500]


def test_mbpp_without_its_examples(tmp_path):
    with pytest.raises(UsageError, match="task_id 2, 3, 4"):
        mbpp_dataset(write(tmp_path / "a.jsonl", [{"task_id": 11}]))


def test_humaneval_is_one_file(tmp_path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "def f():"}])
    for files in (path, {"test": path}):
        assert {split: list(rows) for split, rows in humaneval_dataset(files).items()} == {
            "test": [{"prompt": "def f():"}]
        }


def test_math_items(tmp_path):
    rows = [
        {"problem": "a", "solution": r"so $\boxed{1}$", "level": "Level 1"},
        {"problem": "b", "answer": r"\frac12"},
        {"problem": "c", "answer": 0, "solution": None},
    ]
    found = math_dataset({"train": write(tmp_path / "a.jsonl", rows), "test": write(tmp_path / "b.jsonl", rows[1:2])})
    assert list(found["train"]) == [
        {"problem": "a", "gold": r"so $\boxed{1}$"},
        {"problem": "b", "gold": r"$\boxed{\frac12}$"},
        {"problem": "c", "gold": r"$\boxed{0}$"},
    ]
    assert len(found["test"]) == 1


@pytest.mark.parametrize("row", [{"problem": "a"}, {"solution": "a"}, {"problem": "a", "answer": "", "solution": ""}])
def test_math_items_without_an_answer(tmp_path, row):
    path = write(tmp_path / "a.jsonl", [{"problem": "a", "answer": "1"}, row])
    with pytest.raises(UsageError, match="item test:1 needs the keys problem and solution"):
        math_dataset({"test": path})


def test_math_without_its_extra(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "find_spec", lambda name: None if name == "math_verify" else name)
    with pytest.raises(UsageError, match=r"^it needs math_verify; install the extra: pip install 'evomerge\[math\]'$"):
        math_dataset({"test": write(tmp_path / "a.jsonl", [{"problem": "a", "answer": "1"}])})


def test_math_examples_are_not_scored(tmp_path):
    shot = {"problem": math_shots()[2]["problem"].replace(" ", "\n"), "answer": "16"}
    rows = [{"problem": "a", "answer": "1"}, shot, {"problem": "b", "answer": "2"}]
    found = math_dataset({split: write(tmp_path / f"{split}.jsonl", rows) for split in ("train", "test")})
    assert found["train"]["problem"] == ["a", "b"]
    assert len(found["test"]) == 3  # the test items are lm-eval's, one and all


def test_math_shots(monkeypatch, tmp_path):
    shots = math_shots()
    assert len(shots) == 4
    assert all(set(shot) == {"problem", "gold"} and "The final answer is" in shot["gold"] for shot in shots)
    for content in (None, "", "def list_fewshot_samples():\n    return call()\n", "def ("):
        monkeypatch.setattr(data, "_MINERVA", tmp_path / "utils.py")
        if content is not None:
            (tmp_path / "utils.py").write_text(content)
        with pytest.raises(UsageError, match="examples are not found in"):
            math_shots()
