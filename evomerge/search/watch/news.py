"""What is new in the record, in words: a line for each result of a model, for a log or a terminal."""

from dataclasses import dataclass
from operator import itemgetter

from evomerge.evaluation.types import Split
from evomerge.reporting.tables import are_shares
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import mean_normalised, means_normalised
from evomerge.search.watch.follow import Snapshot
from evomerge.search.watch.pace import range_text


@dataclass(frozen=True)
class Line:
    """A line; how far the search was then, which a live panel shows by itself; whether it is notable beside a panel."""

    text: str
    progress: str
    notable: bool


class News:
    """Finds what is new since it was last asked; what an earlier start of the run found is one line."""

    def __init__(self) -> None:
        self._seen = 0
        self._begun = False
        self._best: tuple[float, Trial] | None = None

    def __call__(self, record: Record, snapshot: Snapshot) -> list[Line]:
        """Return the lines for what is new."""
        new, self._seen = record.results[self._seen :], len(record.results)
        if not self._begun:
            self._begun = True
            if done := record.totals.told.total():
                found = [trial for trial in (record.trials[number] for number, _ in new) if _compared(trial)]
                worth = means_normalised(record, found, "search")
                self._best = max(zip(worth, found, strict=True), key=itemgetter(0), default=None)
                return [Line(f"resumed: {done} models were scored before", "", True)]
        return [self._line_of(record, snapshot, record.trials[number], split) for number, split in new]

    def _line_of(self, record: Record, snapshot: Snapshot, trial: Trial, split: Split | None) -> Line:
        if split is not None:
            return self._line(record, snapshot, trial, split)
        assert trial.failure is not None
        return Line(f"{trial.name:>16}  failed ({trial.failure.kind}): {trial.failure.message}", "", True)

    def _line(self, record: Record, snapshot: Snapshot, trial: Trial, split: Split) -> Line:
        scores = "  ".join(f"{task} {_short(score)}" for task, score in trial.scores[split].items())
        note, progress, notable = "", "", False
        # the scale is known when base and all experts are, which come before all others
        anchored = any(kind not in ("base", "expert") for kind in record.totals.asked)
        if anchored and trial.kind != "base" and split in ("search", "selection"):
            note = f"  mean normalised {mean_normalised(record, trial, split):5.2f}"
        if split == "search":
            if trial.beaten_by is not None:
                items = sum(score.items for score in trial.scores["search"].values())
                note += f"  stopped after {items} items, worse than {record.trials[trial.beaten_by].name}"
            if self._improves(record, trial):
                note, notable = note + "  best so far", True
            if snapshot.planned is not None:
                progress += f"  {snapshot.done}/{snapshot.planned}"
            if snapshot.left is not None:
                progress += f", {range_text(snapshot.left)}"
        return Line(f"{trial.name:>16}  {split:<9}  {scores}{note}", progress, notable)

    def _improves(self, record: Record, trial: Trial) -> bool:
        """Say whether a candidate is the best so far; it is from now on."""
        if not _compared(trial):
            return False
        worth = mean_normalised(record, trial, "search")
        if self._best is not None and worth <= self._best[0]:
            return False
        self._best = (worth, trial)
        return True


def _compared(trial: Trial) -> bool:
    return trial.kind == "candidate" and trial.complete


def _short(score: TaskScore) -> str:
    """Write a mean of shares in per cent, any other as it is."""
    return f"{100 * score.mean:5.1f}" if are_shares(score.scores) else f"{score.mean:.4g}"
