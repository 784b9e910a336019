"""Where a search stands: the baselines beside the best candidate so far. Pure functions of the record."""

from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.evaluation.types import Split
from evomerge.reporting.tables import are_shares
from evomerge.search.record import Record, Trial
from evomerge.search.results import Estimate, by_estimate, estimates, front, mean_normalised, selected


@dataclass(frozen=True)
class Row:
    """A model: its score on each task and all joined (0: the base, 1: the best experts), with its standard error."""

    number: int
    name: str
    kind: str
    tasks: Mapping[str, float]
    joined: float
    error: float | None


@dataclass(frozen=True)
class Standing:
    """The split that scores are of, base, experts and the best of each other kind, the best candidate, the front.

    Attributes:
        shares: for each task whether its scores are shares, to be written in per cent.
        best: None as long as no candidate has a score.
        front: how many candidates no other beats on every task.
    """

    split: Split
    shares: Mapping[str, bool]
    baselines: tuple[Row, ...]
    best: Row | None
    front: int


def standing(record: Record, split: Split = "search", worth: Mapping[int, Estimate] | None = None) -> Standing | None:
    """Return where a search stands, None before base and experts have their scores.

    On the search split scores are what they are `worth` (`results.estimates`), so that the best is not flattered.
    """
    if record.totals.asked.keys() <= {"base", "expert"}:
        return None
    worth = estimates(record) if worth is None else worth

    def row(trial: Trial) -> Row:
        if split == "search":
            estimate = worth[trial.number]
            tasks = {task: mean for task, (mean, _) in estimate.tasks.items()}
            return Row(trial.number, trial.name, trial.kind, tasks, *estimate.joined)
        tasks = {task: score.mean for task, score in trial.scores[split].items()}
        return Row(trial.number, trial.name, trial.kind, tasks, mean_normalised(record, trial, split), None)

    def best_of(kind: str) -> list[Trial]:
        scored = [trial for trial in record.of_kind(kind) if split in trial.scores]
        if split == "search":
            return by_estimate(record, scored, worth)[:1]
        return sorted(scored, key=lambda trial: -mean_normalised(record, trial, split))[:1]

    shown = [trial for trial in record.of_kind("base", "expert") if split in trial.scores]
    for kind in ("uniform", "untuned", "random"):
        shown += best_of(kind)
    best = best_of("candidate") if split == "search" else selected(record)[:1]
    base = record.of_kind("base")[0]
    return Standing(
        split=split,
        shares={task: are_shares(score.scores) for task, score in base.scores["search"].items()},
        baselines=tuple(row(trial) for trial in shown),
        best=row(best[0]) if best else None,
        front=len(front(record, worth)),
    )
