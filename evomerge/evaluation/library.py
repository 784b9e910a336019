"""From a reference to lm-eval task objects: find the YAML file of a task, group or tag by its name, and build it.

lm-eval's own index parses some 14,000 files, which takes seconds; here the file is found by searching the texts, and
only the folders that a group needs are parsed. This file knows nothing about splits or prompts.
"""

import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import lru_cache, wraps
from pathlib import Path
from typing import Any

import lm_eval.tasks
import lm_eval.utils
from lm_eval.api.group import Group
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind, TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.errors import EvomergeError, UsageError, nearest
from evomerge.evaluation.data import local_dataset
from evomerge.evaluation.metrics import one_line
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.spec import TaskSpec
from evomerge.evaluation.types import MAX_GEN_TOKS

#: The YAML files that ship with evomerge; `lm_eval --include_path` takes this folder too.
OWN_TASKS = Path(__file__).with_name("tasks")
STOCK_TASKS = Path(lm_eval.tasks.__file__).parent

_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_EXAMPLE_SPLITS = ("fewshot_split", "training_split", "validation_split")  # in the order in which lm-eval looks

# lm-eval compiles a template anew for each example of each prompt and for each answer that it scores: ten times the
# time of all else. The same text always compiles to the same template.
lm_eval.utils.env.from_string = lru_cache(maxsize=4096)(lm_eval.utils.env.from_string)

_NAME = re.compile(rb"^[\"']?(task|group)[\"']?:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
_GENERATES = "generate_until"


def find(reference: str) -> Entry:
    """Return where a task, group or tag is defined: a YAML file by its path, one of ours or of lm-eval's by its name.

    Raises `UsageError` if there is none.
    """
    with undisturbed():
        if reference.endswith((".yaml", ".yml")):
            return _entry_of_file(Path(reference).expanduser())
        registry = _Registry()
        if reference not in registry:
            raise UsageError(f"unknown task {reference!r}; {_hint(reference)}")
        return registry[reference]


def _entry_of_file(path: Path) -> Entry:
    if not path.is_file():
        raise UsageError(f"task file {path} does not exist")
    try:
        config = load_yaml(path, resolve_func=False)
    except Exception as error:
        raise UsageError(f"{path} is not a task file: {one_line(error)}") from None
    name = config.get("task")
    if isinstance(config.get("group"), str) and isinstance(name, list):
        return Entry(config["group"], Kind.GROUP, path.resolve(), cfg=config)
    if not isinstance(name, str):
        raise UsageError(f"{path} does not define one task or group; its key 'task' is no name")
    return Entry(name, Kind.PY_TASK if "class" in config else Kind.TASK, path.resolve(), cfg=config)


class _Registry(dict[str, Entry]):
    """lm-eval's index of names, read folder by folder when a name is asked for. Tasks of ours come first."""

    def __init__(self, beside: Path | None = None) -> None:
        super().__init__(_index(OWN_TASKS))
        self._searched: set[str] = set()
        if beside is not None and not beside.is_relative_to(STOCK_TASKS):
            self.update(_neighbours(beside))

    def __contains__(self, name: object) -> bool:
        if not super().__contains__(name) and isinstance(name, str) and name not in self._searched:
            self._searched.add(name)
            for folder in _folders_with(name):
                for found, entry in _index(folder).items():
                    if super().__contains__(found) and entry.kind is Kind.TAG and self[found].kind is Kind.TAG:
                        self[found] = Entry(found, Kind.TAG, None, tags=self[found].tags | entry.tags)
                    else:
                        self.setdefault(found, entry)
        return super().__contains__(name)


def _neighbours(file: Path) -> dict[str, Entry]:
    """What the YAML files in the folder of a file define; those that are no task files are passed over."""
    found: dict[str, Entry] = {}
    for path in sorted(file.parent.glob("*.yaml")):
        with suppress(Exception):
            TaskIndex.process_cfg(load_yaml(path, resolve_func=False), path, found)
    return found


@lru_cache(maxsize=64)
def _index(folder: Path) -> dict[str, Entry]:
    return dict(TaskIndex.build([folder]))


@lru_cache(maxsize=256)
def _folders_with(name: str) -> list[Path]:
    """The folders of lm-eval in which a task, group or tag of this name is defined, or at least named in a list."""
    quoted = rb"[\"']?" + re.escape(name.encode()) + rb"[\"']?[ \t]*(#.*)?$"
    line = re.compile(rb"^([\"']?(task|group|tag)[\"']?:[ \t]*|[ \t]*-[ \t]+)" + quoted, re.MULTILINE)
    found = {path.relative_to(STOCK_TASKS).parts[0] for path, text in _stock_texts() if line.search(text)}
    return [STOCK_TASKS / folder for folder in sorted(found)]


@lru_cache(maxsize=1)
def _stock_texts() -> list[tuple[Path, bytes]]:
    """All YAML files of lm-eval, with those that other files include, sorted; 7 MB."""
    paths = sorted(
        Path(folder, name)
        for folder, _, names in os.walk(STOCK_TASKS)
        for name in names
        if name.endswith("yaml") or "." not in name
    )
    return [(path, path.read_bytes()) for path in paths]


def _hint(name: str) -> str:
    known = {path.stem for path in OWN_TASKS.glob("*.yaml")}
    known |= {found.decode(errors="replace") for _, text in _stock_texts() for _, found in _NAME.findall(text)}
    hint = nearest(name, known)
    return hint if hint.startswith("did you mean") else "`lm_eval ls tasks` lists the tasks of lm-eval"


def build(spec: TaskSpec) -> tuple[dict[str, ConfigurableTask], Group | None]:
    """Build the lm-eval task of a spec with its data, or all tasks of a group or tag.

    Returns the tasks by their names, and the group if that is what the spec names (a tag is a group without a number
    of its own). Raises `UsageError` if there is no such task, it cannot be scored item by item, or data are missing.
    """
    where = f"task {spec.name}"
    try:
        entry = find(spec.task)
        factory = _Factory(spec)
        built = factory.build(entry, registry=_Registry(beside=entry.yaml_path))
    except EvomergeError as error:
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        raise UsageError(
            f"{where}: it cannot be loaded: {one_line(error)}; data_files takes local files in place of a data set"
        ) from None
    if isinstance(built, ConfigurableTask):
        return {built.config.task: built}, None
    group = built if isinstance(built, Group) else Group(entry.name)
    for task in built if isinstance(built, list) else []:
        group.add(task)
    tasks = {task.config.task: task for task in group.get_all_tasks()}
    for name in tasks:
        if name not in factory.names:
            raise UsageError(f"{where}: {entry.name!r} defines {name!r} in its own file; give that a file of its own")
    if not tasks:
        raise UsageError(f"{where}: the group {entry.name!r} has no tasks")
    return tasks, group


class _Factory(TaskFactory):  # type: ignore[misc]
    """lm-eval's factory; each task's configuration is checked and changed as the spec says before it is built."""

    def __init__(self, spec: TaskSpec) -> None:
        super().__init__()
        self._spec = spec
        self.names: set[str] = set()

    def _load_full_config(self, entry: Entry, overrides: dict[str, Any] | None = None) -> dict[str, Any]:
        if entry.kind is not Kind.GROUP:
            _refuse(entry)  # before the functions that the file names are imported
        config: dict[str, Any] = super()._load_full_config(entry, overrides)
        if entry.kind is Kind.GROUP:
            return config
        self.names.add(config["task"])
        return {**config, **_changes(self._spec, config)}


def _refuse(entry: Entry) -> None:
    config: Mapping[str, Any] = entry.cfg or load_yaml(entry.yaml_path, resolve_func=False)
    if "class" in config:
        raise UsageError(f"lm-eval's {entry.name!r} is a Python class of its own and cannot be scored")
    if config.get("unsafe_code") and entry.yaml_path is not None and entry.yaml_path.is_relative_to(STOCK_TASKS):
        ours = ", ".join(sorted(path.stem for path in OWN_TASKS.glob("*.yaml")))
        raise UsageError(
            f"lm-eval's {entry.name!r} would run generated code outside the sandbox; evomerge's own tasks: {ours}"
        )
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        raise UsageError(f"{entry.name!r} asks about pictures or sound; only text can be scored")


def _changes(spec: TaskSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the spec changes of a task's configuration."""
    changes: dict[str, Any] = {}
    if callable(config.get("process_docs")):
        changes["process_docs"] = _once(config["process_docs"])
    if spec.num_fewshot is not None:
        changes["num_fewshot"] = spec.num_fewshot
    if config.get("output_type", _GENERATES) == _GENERATES:
        options = {**(config.get("generation_kwargs") or {}), **spec.generation}
        if spec.max_gen_toks is not None:
            options = {key: value for key, value in options.items() if key not in _LIMITS}
            options["max_gen_toks"] = spec.max_gen_toks
        elif not any(key in options for key in _LIMITS):
            options["max_gen_toks"] = MAX_GEN_TOKS
        changes["generation_kwargs"] = options
    elif spec.generation or spec.max_gen_toks is not None:
        raise UsageError("it is scored by likelihood and generates nothing; leave out max_gen_toks and generation")
    if spec.data_files is not None:
        own = config.get("custom_dataset") is not None
        old = dict(config.get("dataset_kwargs") or {}) if own else {}
        changes["dataset_kwargs"] = {**old, "data_files": _files(spec.data_files, config)}
        if not own:
            changes["custom_dataset"] = local_dataset
            if isinstance(spec.data_files, Mapping):
                if spec.fewshot is None and changes.get("num_fewshot", config.get("num_fewshot")):
                    _refuse_missing_examples(spec.data_files, config)
                # lm-eval reads every split that examples may come from, needed or not: it forgets those without a file.
                changes |= {key: None for key in _EXAMPLE_SPLITS if config.get(key) not in (None, *spec.data_files)}
    return changes


def _once(process: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Process each dataset split once; lm-eval does it each time that it looks at one."""
    done: dict[int, tuple[Any, Any]] = {}

    @wraps(process)
    def processed(rows: Any) -> Any:
        if id(rows) not in done:
            done[id(rows)] = rows, process(rows)  # the rows are kept, so that their id stays theirs
        return done[id(rows)][1]

    return processed


def _refuse_missing_examples(files: Mapping[str, str], config: Mapping[str, Any]) -> None:
    if "samples" in (config.get("fewshot_config") or {}):
        return
    split = next((config[key] for key in _EXAMPLE_SPLITS if config.get(key)), None)
    if split is not None and split not in files:
        raise UsageError(f"its examples come from {split!r}; name a file for it in data_files, or set num_fewshot: 0")


def _files(files: Mapping[str, str] | str, config: Mapping[str, Any]) -> dict[str, str] | str:
    """Fill `{task}` and `{subset}` into the paths of data files."""
    if isinstance(files, str):
        return files.replace("{task}", config["task"]).replace("{subset}", str(config.get("dataset_name")))
    return {split: str(_files(path, config)) for split, path in files.items()}
