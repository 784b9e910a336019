"""What a task is to the user: a name, a task of lm-eval, and which of its data are for search, selection and report.

Plain data from `conf/tasks/*.yaml`, checked. This file knows nothing about lm-eval.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.evaluation.types import SPLITS, Split

ANSWER_LENGTH, ANSWER_LANGUAGE = "answer_length", "answer_language"


@dataclass(frozen=True)
class TaskSpec:
    """One task.

    Attributes:
        name: what the user calls it.
        task: the name of an lm-eval task, group or tag (mmlu), of one of ours (zoo_math, mbpp, ...), or the path of a
            YAML file.
        data_files: local JSON files in place of its data set, dataset split -> path; for `mbpp` one path will do. In a
            path, `{task}` stands for the name of a group's subtask, `{subset}` for the subset of the data set it names.
        metric: the score: one of the task's metrics (None: its first), or, for any task that generates, one of
            evomerge's: `answer_length` (generated tokens), `answer_language` (1 where the answer is in `language`), or
            a function of the user's, `FILE.py:function` or `module:function`: `function(doc, answer) -> float`.
        language: ISO 639-1 code of the language that `answer_language` looks for.
        higher_is_better: direction of one of evomerge's metrics; None: shorter answers are better, else larger values.
        filter: which of the task's filters extracts the answer; None: its first, and for evomerge's metrics none.
        num_fewshot: examples in the prompt; None: as the task says.
        fewshot: the dataset split whose items serve as examples in search and selection; None: as the task says.
        chat_template: put the prompt into the model's chat template.
        fewshot_as_multiturn: examples as turns of the chat; None: yes if there is a chat template, as lm-eval does it.
        system_instruction: a text in front of everything; the system message of a chat.
        max_gen_toks: longest answer in tokens; None: as the task says, else 512.
        generation: other generation options of lm-eval, as in {until: ["\\n"]}.
        splits: search, selection, report -> dataset splits. A dataset split that feeds several is divided between them.
            Empty: the report from the task's test data, search and selection from its training and validation data.
        search_on_test_data: let search and selection be fed by the data that lm-eval reports the task on. A report on
            such data is no promise for new questions.
    """

    name: str
    task: str
    data_files: Mapping[str, str] | str | None = None
    metric: str | None = None
    language: str | None = None
    higher_is_better: bool | None = None
    filter: str | None = None
    num_fewshot: int | None = None
    fewshot: str | None = None
    chat_template: bool = False
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    max_gen_toks: int | None = None
    generation: Mapping[str, Any] = field(default_factory=dict)
    splits: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    search_on_test_data: bool = False

    @property
    def own_metric(self) -> bool:
        """Whether the metric is one of evomerge's or of the user's, not lm-eval's."""
        return self.metric in (ANSWER_LENGTH, ANSWER_LANGUAGE) or ":" in (self.metric or "")

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
        for key in ("metric", "language", "filter", "fewshot", "system_instruction"):
            if not isinstance(values.get(key, ""), str):
                raise UsageError(f"{where}: {key} {values[key]!r} is not a text")
        for key in ("higher_is_better", "chat_template", "fewshot_as_multiturn", "search_on_test_data"):
            if not isinstance(values.get(key, False), bool):
                raise UsageError(f"{where}: {key} {values[key]!r} must be true or false")
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
        spec = cls(name=name, **values)
        spec._check(where)
        return spec

    def _check(self, where: str) -> None:
        """Refuse keys that do not go together."""
        if (self.metric == ANSWER_LANGUAGE) != (self.language is not None):
            raise UsageError(f"{where}: metric {ANSWER_LANGUAGE} and language go together, as in language: de")
        if self.higher_is_better is not None and not self.own_metric:
            raise UsageError(
                f"{where}: higher_is_better is for {ANSWER_LENGTH}, {ANSWER_LANGUAGE} and functions of your own; "
                "a metric of lm-eval has its direction"
            )
        if self.fewshot_as_multiturn and not self.chat_template:
            raise UsageError(f"{where}: fewshot_as_multiturn needs chat_template: true")


def expand(name: str, data: Mapping[str, Any]) -> list[TaskSpec]:
    """Return the tasks that plain data stand for: one, or NAME-0shot, NAME-5shot, ... for a list of num_fewshot.

    Raises `UsageError` as `TaskSpec.from_dict` does, and for an empty list or one that says a number twice.
    """
    counts = data.get("num_fewshot") if isinstance(data, Mapping) else None
    if not isinstance(counts, list | tuple):
        return [TaskSpec.from_dict(name, data)]
    if not counts or len({str(count) for count in counts}) < len(counts):
        raise UsageError(f"task {name}: num_fewshot {list(counts)!r} must name each number of examples once")
    return [TaskSpec.from_dict(f"{name}-{count}shot", {**data, "num_fewshot": count}) for count in counts]


def _names(value: Any, where: str) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: {value!r} is not a dataset split or a list of them")
    return tuple(dict.fromkeys(names))
