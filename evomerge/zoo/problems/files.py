"""Writes the task files of the zoo: per task one JSON-lines file a split, the same bytes for the same seed."""

import json
from pathlib import Path

from evomerge.zoo.problems import MAKERS
from evomerge.zoo.problems.base import distinct

SIZES = {"fewshot": 16, "search": 400, "selection": 400, "report": 600}
SEED = 1


def write_items(folder: Path, *, sizes: dict[str, int] = SIZES, seed: int = SEED) -> None:
    """Write `folder/<task>/<split>.jsonl`, no two items of a task with the same key."""
    for task, make in MAKERS.items():
        (folder / task).mkdir(parents=True, exist_ok=True)
        first_id = 1
        for split, count in sizes.items():
            items = [problem.item for problem in distinct(make, split, seed, count)]
            if task == "code":
                items = [item | {"task_id": first_id + i} for i, item in enumerate(items)]
                first_id += count
            text = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
            (folder / task / f"{split}.jsonl").write_text(text, encoding="utf-8")
