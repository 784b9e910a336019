"""Where items come from: local JSON files, the items of the zoo, and the data sets of the tasks that are ours. The
functions are called from the tasks' YAML files.

Files are read into memory, past the cache of `datasets`, so that an edited file is never answered from an old copy.
This file knows nothing about prompts or scores.
"""

import ast
import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import datasets
import lm_eval.tasks
import pyarrow as pa

from evomerge.errors import UsageError

Files = Mapping[str, str] | str

MBPP_HUB = ("google-research-datasets/mbpp", "full")
MBPP_SPLITS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
MBPP_SHOTS = (2, 3, 4)
HUMANEVAL_HUB = "openai/openai_humaneval"
#: The training items of MATH lie in one data set a subject; MATH-500 is a part of its test items.
MATH_TRAIN_HUB = "EleutherAI/hendrycks_math"
MATH_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
MATH_TEST_HUB = "HuggingFaceH4/MATH-500"
_MINERVA = Path(lm_eval.tasks.__file__).parent / "minerva_math" / "utils.py"


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
    """Read a data set from one JSON file a split. A key that some items lack is null there."""
    return datasets.DatasetDict(
        {split: _table(rows, f"data files, {split}") for split, rows in _local_rows(data_files).items()}
    )


def _local_rows(data_files: Files) -> dict[str, list[dict[str, Any]]]:
    if isinstance(data_files, str):
        raise UsageError(f"data_files: write a file for each split, as in {{train: {data_files}}}")
    return {split: read_rows(path) for split, path in data_files.items()}


def _table(rows: Sequence[Mapping[str, Any]], where: str) -> datasets.Dataset:
    keys = dict.fromkeys(key for row in rows for key in row)  # from_list would take those of the first row alone
    try:
        return datasets.Dataset.from_list([{key: row.get(key) for key in keys} for row in rows])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{where}: a key has values of several kinds: {str(error).splitlines()[0]}") from None


def zoo_dataset(zoo_task: str, data_files: Files | None = None, **_: Any) -> datasets.DatasetDict:
    """Read the items of a zoo task that ship with evomerge, or local files."""
    from evomerge.zoo import SPLITS, items_path

    return local_dataset(data_files or {split: str(items_path(zoo_task, split)) for split in SPLITS})


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
    return datasets.DatasetDict({split: _table(part, "the MBPP data") for split, part in found.items() if part})


def mbpp_shots(docs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the examples of MBPP's prompts, ids 2, 3 and 4, out of its split `prompt`."""
    by_id = {doc["task_id"]: doc for doc in docs}
    return [{**by_id[i], "is_fewshot": True} for i in MBPP_SHOTS]


def humaneval_dataset(data_files: Files | None = None, **_: Any) -> datasets.DatasetDict:
    """Read HumanEval from the hub, or from local files; one path stands for its only split, `test`."""
    if data_files is None:
        return datasets.load_dataset(HUMANEVAL_HUB)
    return local_dataset({"test": data_files} if isinstance(data_files, str) else data_files)


def math_dataset(data_files: Files | None = None, **_: Any) -> datasets.DatasetDict:
    """Read MATH's training items and MATH-500 from the hub, or local files of {problem, solution or answer} a split.

    An item's `gold` is the text that holds its right answer: the solution, else the answer as LaTeX mathematics.
    The items that are the examples in every prompt are left out of all splits but `test`. Raises `UsageError` if the
    extra `math` is missing, or an item has no answer.
    """
    if missing := [name for name in ("sympy", "math_verify") if find_spec(name) is None]:
        raise UsageError(f"it needs {' and '.join(missing)}; install the extra: pip install 'evomerge[math]'")
    if data_files is None:
        training = [datasets.load_dataset(MATH_TRAIN_HUB, subject, split="train") for subject in MATH_SUBJECTS]
        data = {"train": datasets.concatenate_datasets(training), "test": datasets.load_dataset(MATH_TEST_HUB)["test"]}
    else:
        data = _local_rows(data_files)
    found = {split: [_math_item(row, f"{split}:{i}") for i, row in enumerate(rows)] for split, rows in data.items()}
    shown = {" ".join(shot["problem"].split()) for shot in math_shots()}
    for split in found.keys() - {
        "test"
    }:  # the examples were taken from the training items, which are scored in a search
        found[split] = [row for row in found[split] if " ".join(row["problem"].split()) not in shown]
    return datasets.DatasetDict({split: datasets.Dataset.from_list(rows) for split, rows in found.items()})


def _math_item(row: Mapping[str, Any], item: str) -> dict[str, Any]:
    """The parts of a row that the task uses."""
    problem, solution, answer = (row.get(key) for key in ("problem", "solution", "answer"))
    if not problem or (not solution and answer in (None, "")):
        raise UsageError(f"item {item} needs the keys problem and solution (or answer)")
    return {"problem": str(problem), "gold": str(solution or f"$\\boxed{{{answer}}}$")}


def math_shots() -> list[dict[str, Any]]:
    """Return the four examples of lm-eval's `minerva_math`, read from its file, which not all installations can import.

    Raises `UsageError` if this version of lm-eval has no such list.
    """
    try:
        tree = ast.parse(_MINERVA.read_text(encoding="utf-8"))
        (function,) = (n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "list_fewshot_samples")
        (value,) = (node.value for node in function.body if isinstance(node, ast.Return))
        rows = ast.literal_eval(value or ast.Constant(None))
        return [{"problem": row["problem"], "gold": row["solution"]} for row in rows]
    except (OSError, SyntaxError, ValueError, TypeError, KeyError):
        raise UsageError(f"lm-eval's examples are not found in {_MINERVA}; evomerge needs lm-eval 0.4") from None
