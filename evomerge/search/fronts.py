"""The front of a run as data: its members with intervals on every split, and how much it covers.

Members are chosen on the search split; how much they cover is measured on the selection split, on items that took no
part in that choice. This file knows nothing about files, nor about how scores came about.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from evomerge.evaluation.types import Split
from evomerge.reporting.front_intervals import hypervolume_interval, membership
from evomerge.reporting.statistics import Interval, mean_interval, mean_with_error
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import Estimate, anchors, estimates, floors, front, gain_row

#: The splits whose items took no part in the choice of the front's members.
HELD_OUT: tuple[Split, ...] = ("selection", "report")


def front_data(record: Record, members: Sequence[Trial] | None = None) -> dict[str, Any]:
    """Return the front as plain data: scales, members, and what they cover on the splits that they were scored on.

    Args:
        record: the record.
        members: the front, in the order wanted; None: by number.
    """
    worth = estimates(record)
    members = front(record, worth) if members is None else members
    return {
        "anchors": anchors(record),
        "floors": floors(record),
        "members": [front_row(record, trial, worth[trial.number]) for trial in members],
        "hypervolume": {split: data for split in HELD_OUT if (data := hypervolume_data(record, members, split))},
    }


def front_row(record: Record, trial: Trial, estimate: Estimate) -> dict[str, Any]:
    """Return a front member as plain data: who it is, what its search scores are worth, and score with interval, health
    and gain on every split and task.
    """
    return {
        "number": trial.number,
        "name": trial.name,
        "recipe_hash": trial.recipe.hash,
        "fingerprint": trial.fingerprint,
        "beaten_by": trial.beaten_by,
        "search_estimate": {
            "tasks": {task: {"mean": mean, "error": error} for task, (mean, error) in estimate.tasks.items()},
            "mean_normalised": {"mean": estimate.joined[0], "error": estimate.joined[1]},
        },
        "scores": {
            split: {
                task: {
                    **asdict(score_interval(score)),
                    "items": score.items,
                    "health": asdict(score.health),
                    "gain": gain_row(record, trial, split, task),
                }
                for task, score in scores.items()
            }
            for split, scores in trial.scores.items()
        },
    }


def hypervolume_data(record: Record, members: Sequence[Trial], split: Split) -> dict[str, Any] | None:
    """Return what the members that were scored on a split cover there, with interval; None if there are none.

    Normalised like every score of a table, 0 the base and 1 the experts; with each member's share of resamples in which
    it is on the front.
    """
    scored = [trial for trial in members if split in trial.scores]
    if not scored:
        return None
    ends = anchors(record)
    scores = {task: [trial.scores[split][task].scores for trial in scored] for task in ends}
    covered = hypervolume_interval(scores, ends, floors=floors(record))
    shares = membership(scores, floors=floors(record))
    return {
        **asdict(covered),
        "on_front": {str(trial.number): share for trial, share in zip(scored, shares, strict=True)},
    }


def score_interval(score: TaskScore) -> Interval:
    """Return the interval of a score.

    Where a race stopped before all items were scored: two errors about the estimate, those of the estimate among the
    run's items and of the items themselves together.
    """
    if score.places is None:
        return mean_interval(score.scores)
    error = math.hypot(score.error, mean_with_error(score.scores)[1])
    return Interval(score.mean, error, score.mean - 2 * error, score.mean + 2 * error)
