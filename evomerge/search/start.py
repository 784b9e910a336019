"""A search from beginning to end: what the configuration names is opened, scored, watched, and its results written.

This is the one place where all rooms of the house meet.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError
from evomerge.evaluation import OutcomeStore
from evomerge.evaluation.metrics import SHARES
from evomerge.merging.residence import MEMORIES
from evomerge.recipes import stages
from evomerge.reporting.trackers import create as create_tracker
from evomerge.search.advice import advise
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig, random_baselines
from evomerge.search.directory import RunDirectory, outcomes_of
from evomerge.search.ledger import Ledger
from evomerge.search.loop import Search
from evomerge.search.mirror import Mirror
from evomerge.search.observers import Observer, Observers
from evomerge.search.opening import Opened, inherit, open_all
from evomerge.search.page.about import about
from evomerge.search.page.file import write_page
from evomerge.search.predicted import predictions_of
from evomerge.search.record import Record
from evomerge.search.report import build_report, print_report
from evomerge.search.results import mean_normalised, selected
from evomerge.search.tracking import Tracking
from evomerge.search.watch import Follower, LogFile, Outline, StatusFile, Terminal, Workbench
from evomerge.search.workers.base import Factory
from evomerge.search.workers.building import Elsewhere, Here
from evomerge.search.workers.choosing import choose
from evomerge.search.workers.in_process import InProcessPool


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
    opened = open_all(config)
    inherited, batching = inherit(config)
    directory = RunDirectory(path)
    directory.prepare(data)

    with closing(Ledger(directory.ledger)) as ledger:
        record, begun = Record.of(ledger.events()), ledger.begin or {}
        random = begun["random"] if "random" in begun else random_baselines(config)  # resumed: as many as it began with
        starting = baselines(opened.stages[0].space, replace(config.baselines, random=random), seed=config.seed)
        follower = Follower(
            Outline(
                name=str(data.get("name", path.name)),
                optimizer=config.optimizer.name,
                seed=config.seed,
                baselines=len(starting),
                budget=config.budget,
                selection=config.selection,
                items={split: sum(map(len, items.values())) for split, items in opened.items.items()},
                report=open_report,
            )
        )
        chosen, devices = choose(config)
        workers = Workbench(chosen)
        with StatusFile(directory.status, follower, workers.now) as status:
            spaces = [stage.space.dimensions for stage in opened.stages]
            others: list[Observer] = [status, Mirror(directory.mirror, name=path.resolve().name, stages=spaces)]
            if tracker is not None:
                others.append(Tracking(tracker, config.tracker.name, directory=directory, config=data))
            store = OutcomeStore(outcomes_of(directory, data), read_also=inherited)
            with (
                closing(store),
                closing(workers),
                _watched(directory, record, follower, workers, others) as (observers, say),
            ):
                advice = advice_on(config, opened)
                for line in advice:
                    say(f"advice: {line}")
                facts = about(opened.pool.layout, opened.tasks, opened.items, advice)
                directory.write_json(directory.about, facts.to_dict())
                batching = begun.get("backend", {}).get("batching", batching)
                if isinstance(chosen, InProcessPool):
                    factory: Factory = Here(config, opened.pool, opened.tasks, store, batching)
                else:
                    factory = Elsewhere(config, store.directory, tuple(inherited), batching)
                backend = workers.start(factory, devices, say)
                search = Search(
                    config,
                    stages=opened.stages,
                    baselines=starting,
                    items=opened.items,
                    facts={
                        **opened.facts(backend),
                        "objectives": {task: dict(config.objectives.get(task, {})) for task in opened.tasks},
                        "random": random,
                    },
                    pool=workers,
                    ledger=ledger,
                    record=record,
                    watch=observers,
                    say=say,
                )
                search.run()
                reported = search.report() if open_report else {}
                store.compact()
                directory.write_front(record)
                predicted = predictions_of(record, opened.stages[-1].space, starting)
                if predicted is not None:
                    directory.write_json(directory.surrogates, predicted.to_dict())
                report = build_report(record, reported, predicted) if open_report else None
                if report is not None:
                    directory.write_json(directory.report, report)
            ledger.close()  # the page asks whether somebody still searches here
            if report is not None:
                print_report(report)
            write_page([path], directory.page)
    return mean_normalised(record, selected(record)[0], "selection")


@contextmanager
def _watched(
    directory: RunDirectory, record: Record, follower: Follower, workers: Workbench, others: Sequence[Observer]
) -> Iterator[tuple[Observers, Callable[[str], None]]]:
    """Have a search watched by the terminal, the log and others; yields them, and what says a line to the first two."""
    log = LogFile(directory.log, follower)
    terminal = Terminal(follower, workers.now, sys.stdout)

    def say(line: str) -> None:
        log.say(line)
        terminal.say(line)

    observers = Observers(terminal, [log, *others], say=say)
    try:
        yield observers, say
    finally:
        observers.close(record)


def advice_on(config: SearchConfig, opened: Opened) -> list[str]:
    """Return what this search should do otherwise, before it costs anything, a line each."""
    shares = [task for task, loaded in opened.tasks.items() if loaded.metric in SHARES]
    floors = {task: config.objectives[task]["floor"] for task in shares if task in config.objectives}
    return advise(
        [stage.space for stage in opened.stages],
        optimizer=config.optimizer.name,
        options=config.optimizer.options,
        candidates=config.budget.candidates,
        shares=[stage.share for stage in stages(config.space)],
        items={task: len(opened.items["search"][task]) for task in shares},
        floors={task: floor for task, floor in floors.items() if floor is not None},
        drop_rate_limits=None if opened.sizes is None else opened.sizes.drop_rate_limits,
    )
