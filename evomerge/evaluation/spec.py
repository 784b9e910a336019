"""What a task is to the user: a name, a task of lm-eval, and which of its data are for search, selection and report.

Plain data from `conf/tasks/*.yaml`, checked. This file knows nothing about lm-eval.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.evaluation.types import SPLITS, Split


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        name: what the user calls it.
        task: the name of an lm-eval task, of one of ours (zoo_math, mbpp, ...), or the path of a task's YAML file.
        data_files: local JSON files in place of its data set, dataset split -> path; for `mbpp` one path will do.
        metric: which of the task's metrics is the score; None: its first.
        filter: which of the task's filters extracts the answer; None: its first.
        num_fewshot: examples in the prompt; None: as the task says.
        fewshot: the dataset split whose items serve as examples in search and selection; None: as the task says.
        max_gen_toks: longest answer in tokens; None: as the task says, else lm-eval's default of 256.
        generation: other generation options of lm-eval, as in {until: ["\\n"]}.
        splits: search, selection, report -> dataset splits. A dataset split that feeds several is divided between them.
            Empty: the report from the task's test data, search and selection from its training and validation data.
    """

    name: str
    task: str
    data_files: Mapping[str, str] | str | None = None
    metric: str | None = None
    filter: str | None = None
    num_fewshot: int | None = None
    fewshot: str | None = None
    max_gen_toks: int | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, name: str, data: Mapping[str, Any]) -> "TaskSpec":
        """Build from plain data; `UsageError` for unknown keys and for values that make no sense."""
        where = f"task {name}"
        if not isinstance(data, Mapping):
            raise UsageError(f"{where}: expected a mapping, not {data!r}")
        refuse_unknown(data, [f.name for f in fields(cls) if f.name != "name"], where)
        if not isinstance(data.get("task"), str):
            raise UsageError(
                f"{where}: key 'task' is missing; give the name of an lm-eval task or the path of a YAML file"
            )
        values = {key: value for key, value in data.items() if value is not None}
        for key in ("metric", "filter", "fewshot"):
            if not isinstance(values.get(key, ""), str):
                raise UsageError(f"{where}: {key} {values[key]!r} is not a name")
        for key, low in (("num_fewshot", 0), ("max_gen_toks", 1)):
            value = values.get(key, low)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise UsageError(f"{where}: {key} {value!r} must be a whole number >= {low}")
        for key in ("generation", "splits"):
            if not isinstance(values.setdefault(key, {}), Mapping):
                raise UsageError(f"{where}: {key} {values[key]!r} is not a mapping")
        refuse_unknown(values["splits"], SPLITS, f"{where}, splits")
        splits = {split: _names(values["splits"][split], f"{where}, splits.{split}") for split in values["splits"]}
        files = values.get("data_files")
        if isinstance(files, Mapping):
            files = {str(split): str(path) for split, path in files.items()}
        elif files is not None and not isinstance(files, str):
            raise UsageError(f"{where}: data_files {files!r} is not a mapping from dataset split to file")
        values |= {"generation": dict(values["generation"]), "splits": splits, "data_files": files}
        return cls(name=name, **values)


def _names(value: Any, where: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: {value!r} is not a dataset split or a list of them")
    return tuple(dict.fromkeys(names))
