"""A whole search over workers that score by a formula, watched as a real one: for tests, here or in a process.

python -m tests.search.watch.demo RUN_DIR SECONDS_A_MODEL [NUMBER_THAT_FAILS ...]
"""

import time
from contextlib import closing
from pathlib import Path

from evomerge.search.ledger import Ledger
from evomerge.search.loop import Search
from evomerge.search.observers import Observers
from evomerge.search.watch import Follower, LogFile, Outline, StatusFile, Terminal, Workbench
from tests.search.test_loop import ITEMS, SPACE, FormulaPool, baselines, configuration, make


class SlowPool(FormulaPool):
    """Takes its time for every model."""

    def __init__(self, seconds, fail):
        super().__init__(fail)
        self.seconds = seconds

    def score(self, job):
        time.sleep(self.seconds)
        return super().score(job)


def outline(config=None, **changes):
    config = config or configuration()
    known = {
        "name": "demo",
        "optimizer": config.optimizer.name,
        "seed": config.seed,
        "baselines": len(baselines(SPACE, config.baselines)),
        "budget": config.budget,
        "selection": config.selection,
        "items": {split: sum(map(len, by_task.values())) for split, by_task in ITEMS.items()},
        "report": True,
    }
    return Outline(**{**known, **changes})


def watched(path: Path, *, seconds=0.0, fail=(), out, config=None, on=lambda record: None):
    """Run a search in `path` with terminal, log and status file; return the record."""
    config = config or configuration()
    path.mkdir(exist_ok=True)
    follower = Follower(outline(config))
    workers = Workbench(SlowPool(seconds, lambda number: number in fail))
    log = LogFile(path / "log.txt", follower)
    with (
        closing(Ledger(path / "ledger.jsonl")) as ledger,
        StatusFile(path / "status.json", follower, workers.now) as status,
    ):
        terminal = Terminal(follower, workers.now, out)
        observers = Observers(terminal, [log, status], say=terminal.say)
        search: Search | None = None
        try:
            workers.start(None, ["one"], print)

            def watch(record):
                observers(record)
                on(record)

            search = make(ledger, config=config, pool=workers, watch=watch)
            search.run()
            search.report()
        finally:
            if search is not None:
                observers.close(search.record)
    return search.record
