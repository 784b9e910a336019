"""What a record shows: who ranks where, the front, the best uniform merge, the chosen candidates.

Pure functions of the record. Scores of several tasks are joined as the mean of normalised scores: 0 is the base's
score on a task, 1 the best expert's. This file knows nothing about how scores came about.
"""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from evomerge.evaluation.health import Gain
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


def best_parent(record: Record, split: Split, task: str) -> Trial | None:
    """Return the expert with the best score on a task and split, the first of equals; None if none was scored there."""
    experts = [trial for trial in record.of_kind("expert") if split in trial.scores]
    return max(experts, key=lambda trial: trial.scores[split][task].mean, default=None)


def gain_of(record: Record, trial: Trial, split: Split, task: str) -> Gain | None:
    """Return what a merge gains over the best expert on a task and split, item by item, and how much of it is health.

    None for the base and the experts, and where no expert was scored.
    """
    parent = best_parent(record, split, task)
    if parent is None or trial.kind in ("base", "expert"):
        return None
    return trial.scores[split][task].gain_over(parent.scores[split][task])


def front(record: Record) -> list[Trial]:
    """Return the candidates that no other candidate beats on every task, by their scores on the search split."""
    trials = record.candidates
    points = [[score.mean for score in trial.scores["search"].values()] for trial in trials]
    return [trial for trial, keep in zip(trials, non_dominated(points), strict=True) if keep] if trials else []


def front_row(record: Record, trial: Trial) -> dict[str, Any]:
    """Return a front member as plain data: who it is, and score, health and gain on every split and task."""
    return {
        "number": trial.number,
        "name": trial.name,
        "recipe_hash": trial.recipe.hash,
        "fingerprint": trial.fingerprint,
        "scores": {
            split: {
                task: {
                    "mean": score.mean,
                    "error": score.error,
                    "items": score.items,
                    "health": asdict(score.health),
                    "gain": gain_row(record, trial, split, task),
                }
                for task, score in scores.items()
            }
            for split, scores in trial.scores.items()
        },
    }


def gain_row(record: Record, trial: Trial, split: Split, task: str) -> dict[str, Any] | None:
    """Return a merge's gain over the best expert on a task and split as plain data, None where `gain_of` is."""
    gain, parent = gain_of(record, trial, split, task), best_parent(record, split, task)
    if gain is None or parent is None:
        return None
    return {"parent": parent.name, **asdict(gain), "explained_by_health": gain.explained}
