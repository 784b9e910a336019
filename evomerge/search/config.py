"""The configuration of a search as typed, closed data: an unknown key is an error that names the nearest known one.

Hydra composes the files in `conf/`; this file turns the result into dataclasses and says what two configurations of
one run may differ in. It knows nothing about Hydra itself.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.search.racing import RacingSettings

WORKERS = ("auto", "in_process", "spawned", "ray")
BACKENDS = ("transformers", "vllm")

#: Parts of the configuration that may change between two starts of one run.
FREE_TO_CHANGE = (
    *("budget", "workers", "name", "tracker", "selection.finalists", "selection.chosen", "selection.front"),
    *("evaluation.outcomes", "evaluation.offload_folder", "evaluation.sandbox", "models.shape"),
)


@dataclass(frozen=True)
class Models:
    """Base, experts, the type of the merged model, and whose tokens it has where tokenizers differ.

    `shape`: the configuration of the base as its config.json has it, for `evomerge plan` where its files are not here.
    """

    base: str
    experts: Mapping[str, str]
    dtype: str = "bfloat16"
    vocabulary: str = "same"
    shape: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class OptimizerChoice:
    """Which optimizer, how it joins several objectives if it knows only one, and its own options."""

    name: str
    scalarization: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """How models are scored. See `conf/evaluation/default.yaml` for the meaning of each key."""

    backend: str
    batch_size: int | str
    dtype: str
    device: str
    device_map: str | Mapping[str, str | int] | None
    offload_folder: str | None
    vllm: Mapping[str, Any]
    split_seed: int
    allow_code_execution: bool
    sandbox: str
    outcomes: str | None


@dataclass(frozen=True)
class Budget:
    """When the search ends; None means no limit of that kind."""

    candidates: int | None
    items: int | None
    seconds: float | None


@dataclass(frozen=True)
class Items:
    """How many items of each split a model is scored on, per task; None means all."""

    search: int | None
    selection: int | None
    report: int | None


@dataclass(frozen=True)
class Baselines:
    """What is scored before the search begins, besides base, experts and average.

    `grid`: uniform task-arithmetic weights; `untuned`: names of other methods with their published settings; `random`:
    how many random points of the space, or "equal": as many as the search may propose.
    """

    grid: tuple[float, ...]
    untuned: tuple[str, ...]
    random: int | str


@dataclass(frozen=True)
class Selection:
    """How many finalists and how many of the front are scored on the selection split, how many on the report split."""

    finalists: int
    chosen: int
    front: int


@dataclass(frozen=True)
class Racing:
    """Whether candidates race against the best so far, and how (`evomerge/search/racing`)."""

    enabled: bool
    settings: RacingSettings


@dataclass(frozen=True)
class RaySettings:
    """Which Ray cluster, and what a worker takes of it. See `conf/workers/ray.yaml` for the meaning of each key."""

    address: str | None = None
    cpus: float = 1
    gpus: float | None = None
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Workers:
    """Who scores, where, and how long it is waited for. See `conf/workers/` for the meaning of each key."""

    name: str
    memory: str = "auto"
    devices: str | int | tuple[str, ...] = "auto"
    patience: float = 60.0
    job_seconds: float | None = None
    at_once: int | None = None
    ray: RaySettings = RaySettings()


@dataclass(frozen=True)
class TrackerChoice:
    """Who else is told the numbers of the search, with its own options. See `conf/tracker/`."""

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class SearchConfig:
    """All of one search. See `conf/config.yaml` for the meaning of each key."""

    name: str
    seed: int
    mask_seed: int
    fork_from: str | None
    models: Models
    space: Mapping[str, Any]
    optimizer: OptimizerChoice
    tasks: Mapping[str, Mapping[str, Any]]
    evaluation: Evaluation
    workers: Workers
    budget: Budget
    items: Items
    baselines: Baselines
    selection: Selection
    racing: Racing
    objectives: Mapping[str, Mapping[str, float | None]]
    tracker: TrackerChoice = TrackerChoice("none", {})  # runs that began before there were any have none

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "SearchConfig":
        """Build from plain data; `UsageError` for unknown or missing keys and for values that make no sense."""
        names = [f.name for f in fields(cls)]
        refuse_unknown(data, names, "configuration")
        for name in names:
            if name not in data and name != "tracker":
                raise UsageError(f"configuration: key {name!r} is missing")
        config = cls(
            name=str(data["name"]),
            seed=whole(data["seed"], "seed", least=0),
            mask_seed=whole(data["mask_seed"], "mask_seed", least=0),
            fork_from=data["fork_from"],
            models=_section(Models, data, "models"),
            space=_mapping(data["space"], "space"),
            optimizer=_section(OptimizerChoice, data, "optimizer"),
            tasks=_mapping(data["tasks"], "tasks"),
            evaluation=_section(Evaluation, data, "evaluation"),
            workers=_workers(data),
            budget=_section(Budget, data, "budget"),
            items=_section(Items, data, "items"),
            baselines=_section(Baselines, data, "baselines"),
            selection=_section(Selection, data, "selection"),
            racing=_racing(_mapping(data["racing"], "racing")),
            objectives=_objectives(_mapping(data["objectives"], "objectives"), data["tasks"]),
            tracker=_section(TrackerChoice, {"tracker": {"name": "none", "options": {}}, **data}, "tracker"),
        )
        config._check()
        return config

    def _check(self) -> None:
        if not self.tasks:
            raise UsageError("tasks: nothing to score; name at least one task")
        budget = self.budget
        if budget.candidates is None and budget.items is None and budget.seconds is None:
            raise UsageError("budget: no limit is set; give candidates, items or seconds")
        for name in ("candidates", "items", "seconds"):
            limit = getattr(budget, name)
            kind = isinstance(limit, int) or (name == "seconds" and isinstance(limit, float))
            if limit is not None and (isinstance(limit, bool) or not kind or limit <= 0 or math.isnan(limit)):
                raise UsageError(f"budget.{name}: {limit!r} must be above zero, or null for no limit")
        for name in ("search", "selection", "report"):
            if getattr(self.items, name) is not None:
                whole(getattr(self.items, name), f"items.{name}", least=1)
        if self.evaluation.batch_size != "auto":
            whole(self.evaluation.batch_size, "evaluation.batch_size (or auto)", least=1)
        if self.evaluation.backend not in BACKENDS:
            raise UsageError(
                f"evaluation.backend: {self.evaluation.backend!r} is unknown; "
                + nearest(self.evaluation.backend, BACKENDS)
            )
        whole(self.selection.finalists, "selection.finalists", least=1)
        whole(self.selection.chosen, "selection.chosen", least=1)
        whole(self.selection.front, "selection.front", least=0)
        if self.baselines.random != "equal":
            whole(self.baselines.random, "baselines.random (or equal)", least=0)
        if self.models.shape is not None and not isinstance(self.models.shape.get("model_type"), str):
            raise UsageError("models.shape: write the keys of the base's config.json, model_type among them")
        _mapping(self.tracker.options, "tracker.options")
        if not isinstance(self.evaluation.allow_code_execution, bool):
            raise UsageError("evaluation.allow_code_execution: write true or false")
        for weight in self.baselines.grid:
            number(weight, "baselines.grid")
        self._check_workers()

    def _check_workers(self) -> None:
        workers = self.workers
        if workers.name not in WORKERS:
            raise UsageError(f"workers.name: {workers.name!r} is unknown; {nearest(workers.name, WORKERS)}")
        number(workers.patience, "workers.patience", least=5)
        if workers.job_seconds is not None:
            number(workers.job_seconds, "workers.job_seconds", least=1)
        if workers.at_once is not None:
            whole(workers.at_once, "workers.at_once", least=1)
        number(workers.ray.cpus, "workers.ray.cpus", least=0)
        if workers.ray.gpus is not None:
            number(workers.ray.gpus, "workers.ray.gpus", least=0)
        for name, amount in _mapping(workers.ray.resources, "workers.ray.resources").items():
            number(amount, f"workers.ray.resources.{name}", least=0)


def random_baselines(config: SearchConfig) -> int:
    """Return how many random points are scored as baselines."""
    wanted = config.baselines.random
    if isinstance(wanted, int):
        return wanted
    if config.budget.candidates is None:
        raise UsageError("baselines.random: equal needs budget.candidates; write a number")
    return config.budget.candidates


def differing_key(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """Return the first dotted key in which two configurations of one run must not differ but do, or None."""
    before, after = flatten(old), flatten(new)
    for key in sorted(before.keys() | after.keys()):
        free = any(key == prefix or key.startswith(prefix + ".") for prefix in FREE_TO_CHANGE)
        if not free and before.get(key) != after.get(key):
            return key
    return None


def value_at_key(data: Mapping[str, Any], key: str) -> Any:
    """Return the value at a dotted key, None where there is none."""
    return flatten(data).get(key)


def flatten(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return dotted key -> value of nested mappings; an empty mapping is a value."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def _section(kind: type[Any], data: Mapping[str, Any], name: str) -> Any:
    """Build one of the dataclasses above from `data[name]`."""
    section = _mapping(data[name], name)
    refuse_unknown(section, [f.name for f in fields(kind)], name)
    try:
        return kind(**section)
    except TypeError:
        missing = [f.name for f in fields(kind) if f.name not in section]
        raise UsageError(f"{name}: key {missing[0]!r} is missing") from None


def _workers(data: Mapping[str, Any]) -> Workers:
    section = _mapping(data["workers"], "workers")
    ray = _section(RaySettings, {"workers.ray": section.get("ray") or {}}, "workers.ray")
    workers: Workers = _section(Workers, {"workers": {**section, "ray": ray}}, "workers")
    return workers


def _racing(section: Mapping[str, Any]) -> Racing:
    settings = {key: value for key, value in section.items() if key != "enabled"}
    refuse_unknown(settings, [f.name for f in fields(RacingSettings)], "racing")
    enabled = section.get("enabled")
    if not isinstance(enabled, bool):
        raise UsageError("racing.enabled: write true or false")
    return Racing(enabled, RacingSettings(**settings))


def _objectives(section: Mapping[str, Any], tasks: Mapping[str, Any]) -> dict[str, dict[str, float | None]]:
    """Return task -> weight and floor, for the tasks that are given any."""
    refuse_unknown(section, tasks, "objectives")
    found: dict[str, dict[str, float | None]] = {}
    for task, data in section.items():
        where = f"objectives.{task}"
        given = _mapping(data, where)
        refuse_unknown(given, ("weight", "floor"), where)
        floor = given.get("floor")
        found[task] = {
            "weight": number(given.get("weight", 1.0), f"{where}.weight", least=0),
            "floor": None if floor is None else number(floor, f"{where}.floor"),
        }
    if found and not any(found.get(task, {}).get("weight", 1.0) for task in tasks):
        raise UsageError("objectives: all weights are 0; give at least one task a weight above 0")
    return found


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected a mapping, not {value!r}")
    return value
