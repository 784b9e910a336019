"""What a person sees while a search runs: one line a model in a log, a bar with the time left on a terminal.

This file knows nothing about how a search goes on; it only watches the record grow.
"""

import sys
import time
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from evomerge.reporting.tables import are_shares
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import mean_normalised


class Watch:
    """Prints each scored trial; on a terminal also keeps a bar below.

    Args:
        planned: how many baselines and candidates the search will score at most, None if only time or items limit it.
        out: where to print.
    """

    def __init__(self, planned: int | None, out: TextIO = sys.stdout) -> None:
        self.planned, self.out = planned, out
        self.start = time.monotonic()
        self._seen: set[tuple[int, str]] = set()
        self._resumed: int | None = None
        self._best: Trial | None = None
        self._bar: Progress | None = None
        if out.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(file=out), transient=True)
            self._task = self._bar.add_task("searching", total=planned)
            self._bar.start()

    def __call__(self, record: Record) -> None:
        """Take note of what is new in the record."""
        done = [trial for trial in record.trials.values() if trial.outcome is not None]
        if self._resumed is None:
            self._resumed = len(done)
            if done:
                self.say(f"resumed: {len(done)} models were scored before")
        for trial in record.trials.values():
            for split in trial.scores:
                if (trial.number, split) not in self._seen:
                    self._seen.add((trial.number, split))
                    self._announce(record, trial, split, len(done))
            if trial.failure and (trial.number, "failed") not in self._seen:
                self._seen.add((trial.number, "failed"))
                self.say(f"{trial.name:>16}  failed ({trial.failure.kind}): {trial.failure.message}")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()

    def _announce(self, record: Record, trial: Trial, split: str, done: int) -> None:
        assert self._resumed is not None
        if done <= self._resumed and split == "search":
            return  # from an earlier start
        scores = "  ".join(f"{task} {_short(score)}" for task, score in trial.scores[split].items())  # type: ignore[index]
        # the scale is known when base and all experts are, which come before all others
        anchored = any(t.kind not in ("base", "expert") for t in record.trials.values())
        note = ""
        if anchored and trial.kind != "base" and split in ("search", "selection"):
            note = f"  mean normalised {mean_normalised(record, trial, split):5.2f}"  # type: ignore[arg-type]
        if split == "search":
            if trial.beaten_by is not None:
                items = sum(score.items for score in trial.scores["search"].values())
                note += f"  stopped after {items} items, worse than {record.trials[trial.beaten_by].name}"
            left = self._left(done)
            note += f"  {left}" if left else ""
            if trial.kind == "candidate" and trial.complete and self._improves(record, trial):
                note += "  best so far"
        self.say(f"{trial.name:>16}  {split:<9}  {scores}{note}")
        if self._bar:
            self._bar.update(self._task, completed=done, description=f"searching {self._left(done)}")

    def _improves(self, record: Record, trial: Trial) -> bool:
        if self._best is not None:
            best = mean_normalised(record, self._best, "search")
            if mean_normalised(record, trial, "search") <= best:
                return False
        self._best = trial
        return True

    def _left(self, done: int) -> str:
        """Say how much is left, from the pace of this start."""
        assert self._resumed is not None
        if self.planned is None or done <= self._resumed:
            return ""
        pace = (time.monotonic() - self.start) / (done - self._resumed)
        seconds = round(pace * max(self.planned - done, 0))
        return f"{done}/{self.planned}, {seconds // 60}:{seconds % 60:02d} left"

    def say(self, line: str) -> None:
        """Print a line, above the bar if there is one."""
        if self._bar:
            self._bar.console.print(line, highlight=False, markup=False)
        else:
            print(line, file=self.out, flush=True)


def _short(score: TaskScore) -> str:
    """Write a mean of shares in per cent, any other as it is."""
    return f"{100 * score.mean:5.1f}" if are_shares(score.scores) else f"{score.mean:.4g}"
