"""From the growing record to a snapshot of plain figures: how far, how long still, what is best, what failed.

The time left comes from the pace of this start (and, right after a resumption, from that of the record), for all that
is still to be scored: candidates, finalists, report. This file knows nothing about how a snapshot is shown.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from evomerge.evaluation.types import Split
from evomerge.search.config import Budget, Selection
from evomerge.search.finalists import finalists
from evomerge.search.record import Record, Trial
from evomerge.search.results import estimates
from evomerge.search.watch.pace import Range, time_left
from evomerge.search.watch.standing import Standing, standing

Phase = Literal["baselines", "search", "selection", "report"]

#: So many of the last results say how long one takes: what is proposed changes, and how long its answers are.
WINDOW = 40
#: Ranking all candidates may take this share of the time.
EFFORT = 0.02


@dataclass(frozen=True)
class Outline:
    """What a search is going to do.

    Attributes:
        name, optimizer, seed: of the search.
        baselines: how many models are scored first.
        budget: when the search ends.
        selection: how many go on from there.
        items: for each split how many items a model is scored on, all tasks together.
        report: whether the report split is scored too.
    """

    name: str
    optimizer: str
    seed: int
    baselines: int
    budget: Budget
    selection: Selection
    items: Mapping[Split, int]
    report: bool


@dataclass(frozen=True)
class Snapshot:
    """A search at one moment.

    Attributes:
        phase: what it is at.
        done: models that have a result on the search split, failures counted, baselines too.
        planned: how many there will be, as far as the budget tells.
        scored: items scored so far on all splits, those of earlier starts counted.
        ahead: about how many are still to be scored; None where the budget has no limit that tells.
        failures: kind -> how many.
        standing: baselines and best; None before there is something to compare.
        left: seconds left when the snapshot was taken.
        taken: when that was (the follower's clock).
    """

    phase: Phase
    done: int
    planned: int | None
    scored: int
    ahead: float | None
    failures: Mapping[str, int]
    standing: Standing | None
    left: Range | None
    taken: float


class Follower:
    """Follows one search; shown the same record twice, it returns the same snapshot.

    Args:
        outline: what the search is going to do.
        clock: gives the time in seconds.
    """

    def __init__(self, outline: Outline, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.outline, self.clock, self.started = outline, clock, clock()
        self.snapshot = Snapshot("baselines", 0, self._planned(), 0, None, {}, None, None, self.started)
        self._seen = 0
        self._results: deque[tuple[float, int]] = deque(maxlen=WINDOW)  # seconds and items of each
        self._of_candidates = 0  # items of candidates on the search split
        self._size = (0, 0)
        self._openings: int | None = None  # of the report, before this start
        self._latest: str | None = None  # the split of the last result of this start
        self._last: float | None = None
        self._standing: Standing | None = None
        self._finalists = 0
        self._rank_again = -math.inf

    def __call__(self, record: Record) -> Snapshot:
        """Take note of what is new in the record."""
        new = self._new(record)
        size = (len(record.trials), record.openings)
        if self._last is not None and not new and size == self._size:
            return self.snapshot
        now = self.clock()
        for trial, split in new:
            items = sum(score.items for score in trial.scores.get(split, {}).values())
            if trial.kind == "candidate" and split == "search":
                self._of_candidates += items
            if self._last is not None:
                self._results.append((now - self._last, items))
                self._last, self._latest = now, split
            elif split == "search":  # of an earlier start
                self._results.append((trial.seconds, items))
        self._last = now if self._last is None or new else self._last
        self._openings = record.openings if self._openings is None else self._openings
        self._size = size
        if now >= self._rank_again:
            self._rank(record, "search")
            self._rank_again = now + (self.clock() - now) / EFFORT
        self.snapshot = self._take(record, now)
        return self.snapshot

    def end(self, record: Record) -> Snapshot:
        """Return the last snapshot, with the scores of the split on which the best was chosen if it came so far."""
        self(record)
        chosen = any("selection" in trial.scores for trial in record.candidates)
        self._rank(record, "selection" if chosen else "search")
        self.snapshot = self._take(record, self.clock())
        return self.snapshot

    def _new(self, record: Record) -> list[tuple[Trial, Split]]:
        """Return the results that were not there before, as (trial, split), a failure as one on the search split."""
        new, self._seen = record.results[self._seen :], len(record.results)
        return [(record.trials[number], split or "search") for number, split in new]

    def _rank(self, record: Record, split: Split) -> None:
        worth = None if record.totals.asked.keys() <= {"base", "expert"} else estimates(record)
        self._standing = standing(record, split, worth)
        if self._standing is not None and self._standing.best is not None:
            self._finalists = len(finalists(record, self.outline.selection, worth))

    def _take(self, record: Record, now: float) -> Snapshot:
        totals = record.totals
        done, candidates = totals.told.total(), totals.told["candidate"]
        used, spent = totals.items["search"], totals.seconds
        each = self._of_candidates / candidates if candidates else float(self.outline.items["search"])
        left = self._candidates_left(candidates, used, spent, each, spent / done if done else 0.0)
        phase = self._phase(record, candidates, left)
        if phase in ("selection", "report"):
            left = 0
        ahead = max(self.outline.baselines - (done - candidates), 0)
        work = None if left is None else self._work(record, phase, ahead, left, each)
        seconds, items = [s for s, _ in self._results], [i for _, i in self._results]
        return Snapshot(
            phase=phase,
            done=done,
            planned=None if left is None else done + ahead + left,
            scored=totals.items.total(),
            ahead=None if work is None else work[0],
            failures=dict(totals.failures),
            standing=self._standing,
            left=None if work is None else time_left(seconds, items, *work),
            taken=now,
        )

    def _planned(self) -> int | None:
        limit = self.outline.budget.candidates
        return None if limit is None else self.outline.baselines + limit

    def _phase(self, record: Record, candidates: int, left: int | None) -> Phase:
        """Return what the search is at; a finished run that goes on with a larger budget has scores on every split."""
        if record.openings > (self._openings or 0) or self._latest == "report":
            return "report"
        if self._latest == "selection":
            return "selection"
        if not candidates:
            return "baselines"
        if left == 0:
            return "report" if record.reported and self._latest is None else "selection"
        return "search"

    def _candidates_left(self, done: int, items: int, seconds: float, each: float, pace: float) -> int | None:
        """Return how many more candidates the budget allows, those being scored counted; None if it has no limit."""
        budget, limits = self.outline.budget, []
        if budget.candidates is not None:
            limits.append(budget.candidates - done)
        ahead = self.outline.baselines * self.outline.items["search"] if done == 0 else 0
        if budget.items is not None and each > 0:
            limits.append(math.ceil((budget.items - max(items, ahead)) / each))
        if budget.seconds is not None and pace > 0:
            limits.append(math.ceil((budget.seconds - seconds) / pace))
        return max(min(limits), 0) if limits else None

    def _work(self, record: Record, phase: Phase, baselines: int, candidates: int, each: float) -> tuple[float, float]:
        """Return how many items are still to be scored, and for how many models."""
        outline = self.outline
        fixed = record.of_kind("base", "expert")
        kinds = record.totals.asked.keys() & {"uniform", "untuned", "random"}
        reported = len(record.reported) or len(fixed) + len(kinds) + outline.selection.chosen
        on = record.totals.models
        selection = max(max(self._finalists, len(fixed) + outline.selection.finalists) - on["selection"], 0)
        if phase == "report":
            selection = 0
        report = max(reported - on["report"], 0) if outline.report else 0
        items = (
            baselines * outline.items["search"]
            + candidates * each
            + selection * outline.items["selection"]
            + report * outline.items["report"]
        )
        return items, baselines + candidates + selection + report
