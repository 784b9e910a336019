"""What is new in the record, in words: a line for each result of a model, for a log or a terminal."""

from dataclasses import dataclass

from evomerge.evaluation.types import Split
from evomerge.reporting.tables import are_shares
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import mean_normalised
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
        self._seen: set[tuple[int, str]] = set()
        self._begun = False
        self._best: Trial | None = None

    def __call__(self, record: Record, snapshot: Snapshot) -> list[Line]:
        """Return the lines for what is new."""
        lines: list[Line] = []
        for trial in record.trials.values():
            for split in trial.scores:
                if self._is_new(trial, split):
                    lines.append(self._line(record, snapshot, trial, split))
            if trial.failure and self._is_new(trial, "failed"):
                text = f"{trial.name:>16}  failed ({trial.failure.kind}): {trial.failure.message}"
                lines.append(Line(text, "", True))
        if not self._begun:
            self._begun = True
            done = sum(trial.outcome is not None for trial in record.trials.values())
            return [Line(f"resumed: {done} models were scored before", "", True)] if done else lines
        return lines

    def _is_new(self, trial: Trial, what: str) -> bool:
        known = (trial.number, what) in self._seen
        self._seen.add((trial.number, what))
        return not known

    def _line(self, record: Record, snapshot: Snapshot, trial: Trial, split: Split) -> Line:
        scores = "  ".join(f"{task} {_short(score)}" for task, score in trial.scores[split].items())
        note, progress, notable = "", "", False
        # the scale is known when base and all experts are, which come before all others
        anchored = any(t.kind not in ("base", "expert") for t in record.trials.values())
        if anchored and trial.kind != "base" and split in ("search", "selection"):
            note = f"  mean normalised {mean_normalised(record, trial, split):5.2f}"
        if split == "search":
            if trial.beaten_by is not None:
                items = sum(score.items for score in trial.scores["search"].values())
                note += f"  stopped after {items} items, worse than {record.trials[trial.beaten_by].name}"
            if trial.kind == "candidate" and trial.complete and self._improves(record, trial):
                note, notable = note + "  best so far", True
            if snapshot.planned is not None:
                progress += f"  {snapshot.done}/{snapshot.planned}"
            if snapshot.left is not None:
                progress += f", {range_text(snapshot.left)}"
        return Line(f"{trial.name:>16}  {split:<9}  {scores}{note}", progress, notable)

    def _improves(self, record: Record, trial: Trial) -> bool:
        if self._best is not None:
            best = mean_normalised(record, self._best, "search")
            if mean_normalised(record, trial, "search") <= best:
                return False
        self._best = trial
        return True


def _short(score: TaskScore) -> str:
    """Write a mean of shares in per cent, any other as it is."""
    return f"{100 * score.mean:5.1f}" if are_shares(score.scores) else f"{score.mean:.4g}"
