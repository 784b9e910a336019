import json

import pytest

from evomerge.errors import UsageError
from evomerge.evaluation.data import local_dataset, mbpp_dataset, mbpp_shots, read_rows, zoo_dataset


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


def test_zoo_items():
    assert {len(rows) for rows in zoo_dataset("math").values()} == {16, 400, 600}


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
