"""Where items come from: local JSON files, the items of the zoo, MBPP. The functions are called from the tasks' YAML
files.

Files are read into memory, past the cache of `datasets`, so that an edited file is never answered from an old copy.
This file knows nothing about prompts or scores.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets

from evomerge.errors import UsageError

Files = Mapping[str, str] | str

MBPP_HUB = ("google-research-datasets/mbpp", "full")
MBPP_SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
MBPP_SHOTS = (2, 3, 4)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Read a JSON Lines file, or a JSON file that holds one list; `UsageError` if it is missing or not that."""
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"data file {path} does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"data file {path} cannot be read: {error}") from None
    try:
        if text.lstrip().startswith("["):
            rows = json.loads(text)
        else:
            # Not splitlines(): JSON strings may hold U+2028 and other line ends that are none to JSON Lines.
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    except ValueError as error:
        raise UsageError(f"data file {path} is not JSON Lines: {error}") from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise UsageError(f"data file {path} holds no items; it needs one JSON object a line")
    return list(rows)


def local_dataset(data_files: Files, **_: Any) -> datasets.DatasetDict:
    """Read a data set from one JSON file a split."""
    if isinstance(data_files, str):
        raise UsageError(f"data_files: write a file for each split, as in {{train: {data_files}}}")
    return datasets.DatasetDict(
        {split: datasets.Dataset.from_list(read_rows(path)) for split, path in data_files.items()}
    )


def zoo_dataset(zoo_task: str, **_: Any) -> datasets.DatasetDict:
    """Read the items of a zoo task that ship with evomerge."""
    from evomerge.zoo import SPLITS, items_path

    return local_dataset({split: str(items_path(zoo_task, split)) for split in SPLITS})


def mbpp_dataset(data_files: Files | None = None, **_: Any) -> datasets.DatasetDict:
    """Read MBPP from the hub, or from local files, whose rows are divided by their ids into the splits of the hub."""
    if data_files is None:
        return datasets.load_dataset(*MBPP_HUB)
    paths = [data_files] if isinstance(data_files, str) else dict.fromkeys(data_files.values())
    rows = {row.get("task_id"): row for path in paths for row in read_rows(path)}
    missing = [str(i) for i in MBPP_SHOTS if i not in rows]
    if missing:
        raise UsageError(f"the MBPP data lack task_id {', '.join(missing)}, an example in every prompt")
    found = {split: [rows[i] for i in ids if i in rows] for split, ids in MBPP_SPLITS.items()}
    return datasets.DatasetDict({split: datasets.Dataset.from_list(part) for split, part in found.items() if part})


def mbpp_shots(docs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the examples of MBPP's prompts, ids 2, 3 and 4, out of its split `prompt`."""
    by_id = {doc["task_id"]: doc for doc in docs}
    return [{**by_id[i], "is_fewshot": True} for i in MBPP_SHOTS]
