"""From a configuration to a running search: open the models, build the space, load the tasks, start the workers.

This is the one place where all rooms of the house meet. The order is from cheap to heavy, so that a wrong word is
refused before a model is loaded.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.doctor import Sizes, measure_sizes
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation import EvalTask, OutcomeStore, load_tasks
from evomerge.evaluation.metrics import SHARES
from evomerge.evaluation.types import SPLITS, Split
from evomerge.merging import METHODS, check, parameter_defaults
from evomerge.merging.residence import MEMORIES
from evomerge.merging.settings import resolve as resolve_settings
from evomerge.recipes import SearchSpace, stages
from evomerge.search.advice import advise
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig, random_baselines
from evomerge.search.directory import RunDirectory, write_text
from evomerge.search.ledger import Ledger
from evomerge.search.loop import Search, Stage
from evomerge.search.predicted import predicted_recipe, read_surrogates, surrogates_of
from evomerge.search.progress import Watch
from evomerge.search.report import build_report, print_report
from evomerge.search.results import mean_normalised, selected
from evomerge.search.scorer import load_chat, load_scorer, pick_device, start_sandbox
from evomerge.search.workers import InProcessPool, Scorer


def run_search(config: SearchConfig, data: Mapping[str, Any], path: Path, *, open_report: bool) -> float:
    """Run or resume a search.

    Args:
        config: the configuration.
        data: the same as plain data, for the run directory.
        path: the run directory.
        open_report: score the chosen candidates on the report split too (a job of a sweep does not).

    Returns the best candidate's mean normalised score on the selection split.
    """
    if config.workers.memory not in ("auto", *MEMORIES):
        raise UsageError(f"workers.memory: {config.workers.memory!r} is none of auto, {', '.join(MEMORIES)}")
    pool = open_pool(config)
    sizes = measure_sizes(pool, threads=os.cpu_count() or 1) if config.space.get("importance", True) else None
    spaces = open_spaces(config, pool, sizes)
    tasks = load_tasks(config.tasks, split_seed=config.evaluation.split_seed, chat=load_chat(config.tasks, pool))
    items = {split: pick_items(tasks, split, getattr(config.items, split)) for split in SPLITS}

    inherited, frozen = [], None
    if config.fork_from is not None:
        parent = RunDirectory(Path(config.fork_from))
        begun = parent.read().begin or {}  # refuses what is no run
        frozen = begun.get("backend", {}).get("batching")
        inherited.append(outcomes_of(parent, parent.read_config()))

    directory = RunDirectory(path)
    directory.prepare(data)
    ledger = Ledger(directory.ledger)
    store = OutcomeStore(outcomes_of(directory, data), read_also=inherited)

    begun = ledger.events[0] if ledger.events else {}
    frozen = begun.get("backend", {}).get("batching", frozen)
    random = begun.get("random", random_baselines(config))  # as many as when the run began, whatever the budget is now
    starting = baselines(spaces[0].space, replace(config.baselines, random=random), seed=config.seed)
    planned = None if config.budget.candidates is None else len(starting) + config.budget.candidates
    watch = Watch(planned)

    shares = [task for task in tasks if tasks[task].metric in SHARES]
    floors = {task: config.objectives[task]["floor"] for task in shares if task in config.objectives}
    for line in advise(
        [stage.space for stage in spaces],
        optimizer=config.optimizer.name,
        options=config.optimizer.options,
        candidates=config.budget.candidates,
        shares=[stage.share for stage in stages(config.space)],
        items={task: len(items["search"][task]) for task in shares},
        floors={task: floor for task, floor in floors.items() if floor is not None},
        drop_rate_limits=None if sizes is None else sizes.drop_rate_limits,
    ):
        watch.say(f"advice: {line}")
    confined = start_sandbox(tasks.values(), config.evaluation)
    if confined is not None:
        watch.say(f"sandbox: {confined}")
    backend: dict[str, Any] = {}

    def scorer(device: str) -> Scorer:
        engine, evaluator = load_scorer(
            *(pool, tasks, config.evaluation, device, store),
            memory=config.workers.memory,
            batching=frozen,
            say=watch.say,
        )
        backend.update(evaluator.backend.settings)
        return Scorer(engine, evaluator)

    workers = InProcessPool()
    workers.start(scorer, [pick_device(config.evaluation.device)])
    try:
        search = Search(
            config,
            stages=spaces,
            baselines=starting,
            items=items,
            facts={
                **facts(spaces, tasks, items, backend),
                "objectives": {task: dict(config.objectives.get(task, {})) for task in tasks},
                "random": random,
            },
            pool=workers,
            ledger=ledger,
            watch=watch,
            say=watch.say,
        )
        record = search.run()
        reported = search.report() if open_report else {}
        store.compact()
    finally:
        watch.close()
        ledger.close()
        store.close()
    directory.write_front(record)
    fitted = surrogates_of(record, spaces[-1].space, starting)
    if fitted is not None:
        directory.write_json(directory.surrogates, fitted.to_dict())
    if open_report:
        report = build_report(record, reported, fitted)
        directory.write_json(directory.report, report)
        print_report(report)
    return mean_normalised(record, selected(record)[0], "selection")


def open_spaces(config: SearchConfig, pool: ModelPool, sizes: Sizes | None = None) -> list[Stage]:
    """Build the search spaces of a configuration, from coarse to fine, and check that their recipes can be merged.

    Their dimensions have the importance that the sizes of the task vectors give them, where these are known.
    """
    found: list[Stage] = []
    until = 0.0
    for stage in stages(config.space):
        until += stage.share
        space = SearchSpace(
            base=config.models.base,
            experts=config.models.experts,
            layout=pool.layout,
            config=stage.config,
            method_parameters={name: parameter_defaults(name) for name in METHODS},
            seed=config.mask_seed,
            dtype=config.models.dtype,
            vocabulary=config.models.vocabulary,
            squared_norms=None if sizes is None else sizes.squared_norms,
        )
        for probe in space.probes():
            resolve_settings(probe, pool.layout)
        check(space.recipe([0.5] * len(space)), pool.layout)
        found.append(Stage(space, min(until, 1.0)))
    found[-1] = replace(found[-1], until=1.0)  # shares add up to one but for rounding
    return found


def write_predicted(run: Path, prefer: Mapping[str, float], file: Path) -> None:
    """Write the recipe that a run's surrogates predict to be the best for some preferences."""
    config = SearchConfig.from_dict(RunDirectory(run).read_config())
    recipe = predicted_recipe(open_spaces(config, open_pool(config))[-1].space, read_surrogates(run), prefer)
    try:
        write_text(file, recipe.to_yaml())
    except OSError as error:
        raise WorkError(f"{file}: cannot be written: {error.strerror}") from None


def open_pool(config: SearchConfig) -> ModelPool:
    """Open base and experts of a configuration."""
    return ModelPool.open(config.models.base, config.models.experts, vocabulary=config.models.vocabulary)


def outcomes_of(directory: RunDirectory, data: Mapping[str, Any]) -> Path:
    """Return where a run keeps its outcomes: its own directory, or a folder that it shares with others."""
    shared = data.get("evaluation", {}).get("outcomes")
    return directory.outcomes if shared is None else Path(shared)


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


def facts(
    spaces: Sequence[Stage],
    tasks: Mapping[str, EvalTask],
    items: Mapping[Split, Mapping[str, tuple[str, ...]]],
    backend: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what must stay as it is while a run goes on: dimensions, items and prompts (as hashes), the back end."""
    prompts = {
        f"{split}/{name}": _digest([(item, tasks[name].prompt_hash(item)) for item in ids])
        for split, by_task in items.items()
        for name, ids in by_task.items()
    }
    return {
        "dimensions": [[dimension.name for dimension in stage.space.dimensions] for stage in spaces],
        "prompts": prompts,
        "backend": dict(backend),
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
