"""From a reference to an lm-eval task object: find the YAML file of a task by its name, and build the task from it.

lm-eval's own index parses some 14,000 files, which takes seconds; here the file is found by its name, or by searching
the texts. This file knows nothing about splits or prompts.
"""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import lm_eval.tasks
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._factory import TaskFactory
from lm_eval.tasks._index import Entry, Kind
from lm_eval.tasks._yaml_loader import load_yaml

from evomerge.errors import EvomergeError, UsageError, nearest
from evomerge.evaluation.data import local_dataset
from evomerge.evaluation.spec import TaskSpec

#: The YAML files that ship with evomerge; `lm_eval --include_path` takes this folder too.
OWN_TASKS = Path(__file__).with_name("tasks")
STOCK_TASKS = Path(lm_eval.tasks.__file__).parent

_NAME = re.compile(rb"^(task|group):[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)


def find_yaml(reference: str) -> Path:
    """Return the YAML file of a task: a path, one of ours by name, or one of lm-eval's by name."""
    if reference.endswith((".yaml", ".yml")):
        path = Path(reference).expanduser()
        if not path.is_file():
            raise UsageError(f"task file {reference} does not exist")
        return path.resolve()
    own = OWN_TASKS / f"{reference}.yaml"
    return own if own.is_file() else _find_stock(reference)


@lru_cache(maxsize=256)
def _find_stock(name: str) -> Path:
    files = _stock_files()
    same = [path for path in files if path.stem.replace("-", "_") == name.replace("-", "_")]
    known = {path.stem for path in OWN_TASKS.glob("*.yaml")}
    for path in same + files:
        for kind, found in _NAME.findall(path.read_bytes()):
            if found.decode(errors="replace") == name:
                if kind == b"group":
                    raise UsageError(f"{name!r} is a group of tasks; name the tasks that you mean")
                return path
            if kind == b"task":
                known.add(found.decode(errors="replace"))
    raise UsageError(f"unknown task {name!r}; {_hint(name, known)}")


@lru_cache(maxsize=1)
def _stock_files() -> list[Path]:
    """All YAML files of lm-eval, sorted."""
    return sorted(
        Path(folder, name) for folder, _, names in os.walk(STOCK_TASKS) for name in names if name.endswith(".yaml")
    )


def _hint(name: str, known: set[str]) -> str:
    hint = nearest(name, known)
    return hint if hint.startswith("did you mean") else "`lm_eval ls tasks` lists the tasks of lm-eval"


def build(spec: TaskSpec) -> ConfigurableTask:
    """Build the lm-eval task of a spec, with its data.

    Raises `UsageError` if there is no such task, it cannot be scored item by item, or its data are missing.
    """
    path = find_yaml(spec.task)
    where = f"task {spec.name}"
    try:
        config = load_yaml(path, resolve_func=False)
    except Exception as error:
        raise UsageError(f"{where}: {path} is not a task file: {_line(error)}") from None
    if not isinstance(config.get("task"), str):
        raise UsageError(f"{where}: {path} does not define one task; its key 'task' is no name")
    if config.get("unsafe_code") and path.is_relative_to(STOCK_TASKS):
        ours = ", ".join(sorted(path.stem for path in OWN_TASKS.glob("*.yaml")))
        raise UsageError(
            f"{where}: lm-eval's {config['task']!r} would run generated code outside the sandbox; "
            f"evomerge's own tasks: {ours}"
        )
    if config.get("output_type", "generate_until") != "generate_until":
        raise UsageError(f"{where}: it is scored by likelihood; only tasks that generate answers can be scored")
    entry = Entry(name=config["task"], kind=Kind.PY_TASK if "class" in config else Kind.TASK, yaml_path=path)
    try:
        task = TaskFactory().build(entry, overrides=_overrides(spec, config), registry={})
    except EvomergeError as error:
        raise type(error)(f"{where}: {error}") from None
    except Exception as error:
        raise UsageError(
            f"{where}: it cannot be loaded: {_line(error)}; data_files takes local files in place of a data set"
        ) from None
    if not isinstance(task, ConfigurableTask):
        raise UsageError(f"{where}: lm-eval's {config['task']!r} is a Python class of its own and cannot be scored")
    return task


def _overrides(spec: TaskSpec, config: Mapping[str, Any]) -> dict[str, Any]:
    """What the spec changes of the task's configuration."""
    changes: dict[str, Any] = {}
    if spec.num_fewshot is not None:
        changes["num_fewshot"] = spec.num_fewshot
    generation = dict(spec.generation)
    if spec.max_gen_toks is not None:
        generation["max_gen_toks"] = spec.max_gen_toks
    if generation:
        changes["generation_kwargs"] = {"do_sample": False, **(config.get("generation_kwargs") or {}), **generation}
    if spec.data_files is not None:
        own = config.get("custom_dataset") is not None
        old = dict(config.get("dataset_kwargs") or {}) if own else {}
        changes["dataset_kwargs"] = {**old, "data_files": spec.data_files}
        if not own:
            changes["custom_dataset"] = local_dataset
    return changes


def _line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
