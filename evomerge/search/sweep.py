"""After a sweep: the report split is opened once, for the winner of all its runs.

The jobs of a sweep stop at the selection split, so that the report items are not looked at once a job. This file
knows nothing about launchers; Hydra calls `Sweep` when all jobs are done.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from evomerge.errors import WorkError
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory
from evomerge.search.results import mean_normalised, selected


@dataclass(frozen=True)
class FinishedSweep:
    """A sweep whose jobs are all done.

    Attributes:
        path: its directory.
        elsewhere: its jobs ran where a launcher started them, not in this process.
    """

    path: Path
    elsewhere: bool


#: The sweeps that ended in this process.
finished_sweeps: list[FinishedSweep] = []


class Sweep(Callback):  # type: ignore[misc]
    """Notes where a sweep was. (Hydra turns errors in a callback into warnings, so the work is done elsewhere.)"""

    def on_multirun_end(self, config: Any, **kwargs: Any) -> None:
        """Note the sweep."""
        elsewhere = "basic_launcher" not in config.hydra.launcher._target_
        finished_sweeps.append(FinishedSweep(Path(config.hydra.sweep.dir), elsewhere))


def winner_of(sweep: Path) -> RunDirectory:
    """Find the run whose best candidate is best on the selection split.

    Raises `WorkError` if no run of the sweep has got as far as the selection split.
    """
    runs = [RunDirectory(path.parent) for path in sorted(sweep.rglob("ledger.jsonl"))]
    scored = []
    for run in runs:
        record = run.read()
        if best := selected(record)[:1]:
            scored.append((mean_normalised(record, best[0], "selection"), run))
    if not scored:
        raise WorkError(f"{sweep}: no run of this sweep has finished")
    for value, run in scored:
        print(f"{run.path}: best on selection {value:.3f}")
    _, winner = max(scored, key=lambda pair: pair[0])
    print(f"winner of the sweep: {winner.path}")
    return winner


def open_report(winner: RunDirectory) -> None:
    """Open the report split for the winner of a sweep."""
    from evomerge.search.start import run_search  # here: Hydra imports this file before every job

    data = winner.read_config()
    run_search(SearchConfig.from_dict(data), data, winner.path, open_report=True)
