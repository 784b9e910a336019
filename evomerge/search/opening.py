"""From a configuration to what it names: models, search spaces, tasks and the items of each split.

The order is from cheap to heavy, so that a wrong word is refused before a model is loaded. This file knows nothing
about how a search goes on.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.doctor import Sizes, measure_sizes
from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask, load_tasks
from evomerge.evaluation.types import SPLITS, Split
from evomerge.merging import METHODS, check, parameter_defaults
from evomerge.merging.settings import resolve as resolve_settings
from evomerge.recipes import Layout, SearchSpace, stages
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory, outcomes_of
from evomerge.search.loop import Stage
from evomerge.search.scorer import load_chat

#: Split -> task -> ids of items.
SplitItems = Mapping[Split, Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Opened:
    """What a configuration names.

    Attributes:
        pool: base and experts.
        sizes: of the task vectors; None where the space does not use them.
        stages: the search spaces, from coarse to fine.
        tasks: by name.
        items: to be scored.
    """

    pool: ModelPool
    sizes: Sizes | None
    stages: list[Stage]
    tasks: Mapping[str, EvalTask]
    items: SplitItems

    def facts(self, backend: Mapping[str, Any]) -> dict[str, Any]:
        """Return what must stay as it is while a run goes on, as plain data."""
        dimensions = [[dimension.name for dimension in stage.space.dimensions] for stage in self.stages]
        return {
            "dimensions": dimensions,
            "prompts": prompt_hashes(self.tasks, self.items),
            "backend": dict(backend),
        }


def open_all(config: SearchConfig) -> Opened:
    """Open all that a search needs."""
    pool = open_pool(config)
    sizes = measure_sizes(pool, threads=os.cpu_count() or 1) if config.space.get("importance", True) else None
    spaces = open_spaces(config, pool, sizes)
    tasks, items = open_tasks(config, pool)
    return Opened(pool, sizes, spaces, tasks, items)


def open_tasks(config: SearchConfig, pool: ModelPool) -> tuple[dict[str, EvalTask], SplitItems]:
    """Load the tasks, and pick the items of each split."""
    tasks = load_tasks(config.tasks, split_seed=config.evaluation.split_seed, chat=load_chat(config.tasks, pool))
    return tasks, {split: pick_items(tasks, split, getattr(config.items, split)) for split in SPLITS}


def open_spaces(config: SearchConfig, pool: ModelPool, sizes: Sizes | None = None) -> list[Stage]:
    """Build the search spaces of a configuration, from coarse to fine, and check that their recipes can be merged.

    Their dimensions have the importance that the sizes of the task vectors give them, where these are known.
    """
    return spaces_of(config, pool.layout, sizes)


def spaces_of(config: SearchConfig, layout: Layout, sizes: Sizes | None = None) -> list[Stage]:
    """Do the same from the names of the tensors alone: for models that are not here."""
    found: list[Stage] = []
    until = 0.0
    for stage in stages(config.space):
        until += stage.share
        space = SearchSpace(
            base=config.models.base,
            experts=config.models.experts,
            layout=layout,
            config=stage.config,
            method_parameters={name: parameter_defaults(name) for name in METHODS},
            seed=config.mask_seed,
            dtype=config.models.dtype,
            vocabulary=config.models.vocabulary,
            squared_norms=None if sizes is None else sizes.squared_norms,
        )
        for probe in space.probes():
            resolve_settings(probe, layout)
        check(space.recipe([0.5] * len(space)), layout)
        found.append(Stage(space, min(until, 1.0)))
    found[-1] = replace(found[-1], until=1.0)  # shares add up to one but for rounding
    return found


def inherit(config: SearchConfig) -> tuple[list[Path], Any]:
    """Return the outcome store and the batch sizes of the run that a search is forked from, if any."""
    if config.fork_from is None:
        return [], None
    parent = RunDirectory(Path(config.fork_from))
    begun = parent.read().begin or {}  # refuses what is no run
    return [outcomes_of(parent, parent.read_config())], begun.get("backend", {}).get("batching")


def open_pool(config: SearchConfig, *, check_weights: bool = True) -> ModelPool:
    """Open base and experts of a configuration; without `check_weights` their headers only are read."""
    models = config.models
    return ModelPool.open(models.base, models.experts, check_weights=check_weights, vocabulary=models.vocabulary)


def pick_items(
    tasks: Mapping[str, EvalTask], split: Split, limit: int | None, *, in_file_order: bool = False
) -> dict[str, tuple[str, ...]]:
    """Return the first `limit` items of each task's split (None: all); `UsageError` if a split is empty.

    The first in the order of the split's seeded hash, so that they are a random subset, or in that of the data file.
    """
    picked = {}
    for name, task in tasks.items():
        picked[name] = task.items(split, in_file_order=in_file_order)[:limit]
        if not picked[name]:
            raise UsageError(f"task {name!r}: no items for the {split} split")
    return picked


def prompt_hashes(tasks: Mapping[str, EvalTask], items: SplitItems) -> dict[str, str]:
    """Return split/task -> a hash of the items and their prompts."""
    return {
        f"{split}/{name}": _digest([(item, tasks[name].prompt_hash(item)) for item in ids])
        for split, by_task in items.items()
        for name, ids in by_task.items()
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
