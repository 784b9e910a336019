"""What a record shows: who ranks where, the front, the best uniform merge, the chosen candidates.

Pure functions of the record. Scores of several tasks are joined as the mean of normalised scores: 0 is the base's
score on a task, 1 the best expert's. This file knows nothing about how scores came about.
"""

from collections.abc import Iterable

from evomerge.evaluation.types import Split
from evomerge.optimizers.base import Objective
from evomerge.reporting.front import non_dominated
from evomerge.search.record import Record, Trial


def objectives(record: Record, split: Split) -> list[Objective]:
    """Return one objective a task, with base and best expert on `split` as its zero and one."""
    base, experts = record.of_kind("base")[0].scores[split], record.of_kind("expert")
    return [
        Objective(task, score.mean, max(expert.scores[split][task].mean for expert in experts))
        for task, score in base.items()
    ]


def mean_normalised(record: Record, trial: Trial, split: Split, anchors: Split = "search") -> float:
    """Return the mean over tasks of a trial's normalised scores on `split`; `anchors` says where 0 and 1 are taken."""
    scales = objectives(record, anchors)
    return sum(scale.normalise(trial.scores[split][scale.name].mean) for scale in scales) / len(scales)


def rank(record: Record, trials: Iterable[Trial], split: Split) -> list[Trial]:
    """Return trials by mean normalised score on `split`, best first, earlier first where equal."""
    return sorted(trials, key=lambda trial: (-mean_normalised(record, trial, split), trial.number))


def selected(record: Record) -> list[Trial]:
    """Return the finalists, best on the selection split first."""
    return rank(record, (trial for trial in record.candidates if "selection" in trial.scores), "selection")


def best_uniform(record: Record) -> Trial | None:
    """Return the uniform merge that is best on the selection split, None if none was scored there."""
    return next(
        iter(rank(record, (t for t in record.of_kind("uniform") if "selection" in t.scores), "selection")), None
    )


def best_expert(record: Record, split: Split) -> Trial:
    """Return the expert with the best mean normalised score on `split`."""
    return rank(record, record.of_kind("expert"), split)[0]


def front(record: Record) -> list[Trial]:
    """Return the candidates that no other candidate beats on every task, by their scores on the search split."""
    trials = record.candidates
    points = [[score.mean for score in trial.scores["search"].values()] for trial in trials]
    return [trial for trial, keep in zip(trials, non_dominated(points), strict=True) if keep] if trials else []
