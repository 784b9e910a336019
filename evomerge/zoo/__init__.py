"""The tiny model family that ships with evomerge: a base, three experts, and their tasks.

Names, paths, nothing else: this file knows neither how the models were trained nor how they are scored.
"""

from pathlib import Path

from evomerge.errors import UsageError, nearest

MODELS: dict[str, str] = {
    "base": "the common ancestor: some skill in all three tasks",
    "math": "the base, trained further on word problems in the format of GSM8K",
    "code": "the base, trained further on Python functions in the format of MBPP",
    "translate": "the base, trained further on sentences from English into Koro, a made-up language",
}

TASKS: dict[str, str] = {
    "math": "word problems in the format of GSM8K; the last line of an answer is `#### N`",
    "code": "Python functions from a sentence and an assert, in the format of MBPP; checked by three asserts",
    "translate": "sentences from English into Koro, a made-up language; the whole line must be right",
}

SPLITS = ("fewshot", "search", "selection", "report")

_HERE = Path(__file__).parent


def model_path(name: str) -> Path:
    """Return the directory of a shipped model; raise `UsageError` if there is none of that name."""
    if name not in MODELS:
        raise UsageError(f"the zoo has no model {name!r}; {nearest(name, MODELS)}")
    return _HERE / "models" / name


def items_path(task: str, split: str) -> Path:
    """Return the file of a task's items, one JSON object a line; raise `UsageError` for an unknown task or split."""
    if task not in TASKS:
        raise UsageError(f"the zoo has no task {task!r}; {nearest(task, TASKS)}")
    if split not in SPLITS:
        raise UsageError(f"task {task} has no split {split!r}; {nearest(split, SPLITS)}")
    return _HERE / "items" / task / f"{split}.jsonl"
