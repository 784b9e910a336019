"""From a configuration to a running search: open the models, build the space, load the tasks, start the workers.

This is the one place where all rooms of the house meet. The order is from cheap to heavy, so that a wrong word is
refused before a model is loaded.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.doctor import Sizes, measure_sizes
from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask, OutcomeStore, load_tasks
from evomerge.evaluation.metrics import SHARES
from evomerge.evaluation.types import SPLITS, Split
from evomerge.merging import METHODS, check, parameter_defaults
from evomerge.merging.residence import MEMORIES
from evomerge.merging.settings import resolve as resolve_settings
from evomerge.recipes import Layout, SearchSpace, stages
from evomerge.reporting.trackers import create as create_tracker
from evomerge.search.advice import advise
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig, random_baselines
from evomerge.search.directory import RunDirectory, outcomes_of
from evomerge.search.ledger import Ledger
from evomerge.search.loop import Search, Stage
from evomerge.search.mirror import Mirror
from evomerge.search.observers import Observer, Observers
from evomerge.search.page.about import about
from evomerge.search.page.file import write_page
from evomerge.search.predicted import predictions_of
from evomerge.search.record import Record
from evomerge.search.report import build_report, print_report
from evomerge.search.results import mean_normalised, selected
from evomerge.search.scorer import load_chat, load_scorer, pick_device, start_sandbox
from evomerge.search.tracking import Tracking
from evomerge.search.watch import Follower, LogFile, Outline, StatusFile, Terminal, Workbench
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
    tracker = create_tracker(config.tracker.name, config.tracker.options)
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
    follower = Follower(
        Outline(
            name=str(data.get("name", path.name)),
            optimizer=config.optimizer.name,
            seed=config.seed,
            baselines=len(starting),
            budget=config.budget,
            selection=config.selection,
            items={split: sum(map(len, items[split].values())) for split in SPLITS},
            report=open_report,
        )
    )
    workers = Workbench(InProcessPool())
    log = LogFile(directory.log, follower)
    with StatusFile(directory.status, follower, workers.now) as status:
        followers: list[Observer] = [
            log,
            status,
            Mirror(directory.mirror, name=path.resolve().name, stages=[stage.space.dimensions for stage in spaces]),
        ]
        if tracker is not None:
            followers.append(Tracking(tracker, config.tracker.name, directory=directory, config=data))
        terminal = Terminal(follower, workers.now, sys.stdout)

        def say(line: str) -> None:
            log.say(line)
            terminal.say(line)

        observers = Observers(terminal, followers, say=say)
        search = None
        try:
            advice = say_advice(config, spaces, tasks, items, sizes, say=say)
            directory.write_json(directory.about, about(pool.layout, tasks, items, advice).to_dict())
            confined = start_sandbox(tasks.values(), config.evaluation)
            if confined is not None:
                say(f"sandbox: {confined}")
            backend: dict[str, Any] = {}

            def scorer(device: str) -> Scorer:
                engine, evaluator = load_scorer(
                    *(pool, tasks, config.evaluation, device, store),
                    memory=config.workers.memory,
                    batching=frozen,
                    say=say,
                )
                backend.update(evaluator.backend.settings)
                return Scorer(engine, evaluator)

            workers.start(scorer, [pick_device(config.evaluation.device)])
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
                watch=observers,
                say=say,
            )
            record = search.run()
            reported = search.report() if open_report else {}
            store.compact()
            directory.write_front(record)
            predicted = predictions_of(record, spaces[-1].space, starting)
            if predicted is not None:
                directory.write_json(directory.surrogates, predicted.to_dict())
            if open_report:
                report = build_report(record, reported, predicted)
                directory.write_json(directory.report, report)
        finally:
            observers.close(Record.of(ledger.events) if search is None else search.record)
            ledger.close()
            store.close()
        if open_report:
            print_report(report)
        write_page([path], directory.page)
    return mean_normalised(record, selected(record)[0], "selection")


def say_advice(
    config: SearchConfig,
    spaces: Sequence[Stage],
    tasks: Mapping[str, EvalTask],
    items: Mapping[Split, Mapping[str, tuple[str, ...]]],
    sizes: Sizes | None,
    *,
    say: Callable[[str], None],
) -> list[str]:
    """Say what this search should do otherwise, before it costs anything; return the lines."""
    shares = [task for task in tasks if tasks[task].metric in SHARES]
    floors = {task: config.objectives[task]["floor"] for task in shares if task in config.objectives}
    lines = advise(
        [stage.space for stage in spaces],
        optimizer=config.optimizer.name,
        options=config.optimizer.options,
        candidates=config.budget.candidates,
        shares=[stage.share for stage in stages(config.space)],
        items={task: len(items["search"][task]) for task in shares},
        floors={task: floor for task, floor in floors.items() if floor is not None},
        drop_rate_limits=None if sizes is None else sizes.drop_rate_limits,
    )
    for line in lines:
        say(f"advice: {line}")
    return lines


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
