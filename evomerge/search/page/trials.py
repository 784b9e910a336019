"""The trials of a run as columns: who they are, what their parameters are, and what they scored.

Every column has one entry a trial, by number, None where a trial has nothing to say. This file knows nothing about
how columns are drawn.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from evomerge.evaluation.types import Split
from evomerge.recipes import Dimension
from evomerge.reporting.statistics import Interval, mean_interval, mean_normalised
from evomerge.search.fronts import score_interval
from evomerge.search.page.numbers import short, shorts
from evomerge.search.page.view import View
from evomerge.search.record import TaskScore, Trial

_RATES = {"truncated": "truncated", "empty": "empty", "looping": "looping", "malformed": "misshapen"}


def trial_columns(view: View) -> dict[str, Any]:
    """Return the columns of all trials."""
    trials, members = view.trials, {trial.number for trial in view.front}
    best = view.best.number if view.best else None
    return {
        "number": [trial.number for trial in trials],
        "kind": [trial.kind for trial in trials],
        "name": [trial.name for trial in trials],
        "stage": [trial.stage for trial in trials],
        "hash": [trial.recipe.hash for trial in trials],
        "fingerprint": [trial.fingerprint for trial in trials],
        "values": values(view, trials),
        "beaten_by": [trial.beaten_by for trial in trials],
        "failure": [
            {"kind": trial.failure.kind, "message": trial.failure.message} if trial.failure else None
            for trial in trials
        ],
        "seconds": [short(trial.seconds) if trial.scores else None for trial in trials],
        "front": [trial.number in members for trial in trials],
        "best": [trial.number == best for trial in trials],
        **_score_columns(view),
        "worth": _worth(view),
        "health": {split: {task: _health(view, split, task) for task in view.tasks} for split in view.splits},
        "explained_by_health": {task: _explained(view, task) for task in view.tasks},
    }


def dimensions(view: View) -> list[dict[str, Any]]:
    """Return the dimensions of the last space; their bounds are None where the space is not known."""
    if view.spaces:
        return [
            {
                "name": d.name,
                "group": d.group,
                "expert": d.expert,
                "parameter": d.parameter,
                "low": d.low,
                "high": d.high,
                **({"choices": list(d.choices)} if d.choices else {}),
            }
            for d in view.spaces[-1].dimensions
        ]
    names = ((view.record.begin or {}).get("dimensions") or [[]])[-1]
    experts = view.trials[0].recipe.experts
    return [_named(name, [*experts]) for name in names]


def values(view: View, trials: Sequence[Trial]) -> list[list[Any] | None]:
    """Return the parameter values of trials by dimension, None for those outside the space or in an unknown one."""
    found: list[list[Any] | None] = [None] * len(trials)
    placed = [i for i, trial in enumerate(trials) if trial.number in view.vectors]
    if not view.spaces or not placed:
        return found
    dimensions = view.spaces[-1].dimensions
    points = np.array([view.vectors[trials[i].number] for i in placed])
    columns = [_values(dimension, points[:, j]) for j, dimension in enumerate(dimensions)]
    for i, row in zip(placed, zip(*columns, strict=True), strict=True):
        found[i] = list(row)
    return found


def _values(dimension: Dimension, units: Any) -> list[Any]:
    if dimension.choices:
        return [dimension.value(float(unit)) for unit in units]
    return shorts(dimension.low + units * (dimension.high - dimension.low))


def _named(name: str, experts: Sequence[str]) -> dict[str, Any]:
    """What the name of a dimension says: parameter, expert and group, or parameter and group."""
    parameter, _, rest = name.partition(".")
    expert = next((label for label in experts if rest == label or rest.startswith(f"{label}.")), None)
    group = rest if expert is None else rest[len(expert) + 1 :]
    return {"name": name, "group": group or None, "expert": expert, "parameter": parameter, "low": None, "high": None}


def _score_columns(view: View) -> dict[str, Any]:
    """Return scores by split and task, and joined, with 95 % intervals."""
    interval = _remembering()
    scores: dict[str, Any] = {}
    joined: dict[str, Any] = {}
    for split in view.splits:
        by_task = {task: [trial.scores.get(split, {}).get(task) for trial in view.trials] for task in view.tasks}
        scores[split] = {
            task: {
                **_ends([None if score is None else interval(score) for score in column]),
                "items": [None if score is None else score.items for score in column],
            }
            for task, column in by_task.items()
        }
        joined[split] = _ends(
            [joined_interval(view, trial, split) if split in trial.scores else None for trial in view.trials]
        )
    return {"scores": scores, "joined": joined}


def joined_interval(view: View, trial: Trial, split: Split) -> Interval:
    """Return a trial's mean normalised score with its interval.

    Of one that a race stopped: two errors about the estimate, joined from those of its tasks.
    """
    scores = trial.scores[split]
    if all(score.places is None for score in scores.values()):
        plain = {task: score.array for task, score in scores.items()}
        return mean_normalised(plain, view.anchors, weights=view.weights)
    total = sum(scale.weight for scale in view.scales)
    mean = square = 0.0
    for scale in view.scales:
        found = score_interval(scores[scale.name])
        factor = scale.weight / total
        mean += factor * scale.normalise(found.mean)
        square += (factor * (scale.normalise(1.0) - scale.normalise(0.0)) * found.error) ** 2
    error = square**0.5
    return Interval(mean, error, mean - 2 * error, mean + 2 * error)


def _remembering() -> Callable[[TaskScore], Interval]:
    """Return `score_interval`, which is the same for all scores of as many right and wrong answers."""
    known: dict[tuple[int, int], Interval] = {}

    def interval(score: TaskScore) -> Interval:
        if not isinstance(score.by_item, str) or score.places is not None:
            return score_interval(score)
        key = score.by_item.count("1"), len(score.by_item)
        if key not in known:
            known[key] = mean_interval([1.0] * key[0] + [0.0] * (key[1] - key[0]))
        return known[key]

    return interval


def _ends(intervals: Sequence[Interval | None]) -> dict[str, list[float | None]]:
    return {key: [None if i is None else short(getattr(i, key)) for i in intervals] for key in ("mean", "low", "high")}


def _worth(view: View) -> dict[str, Any]:
    """What search scores are worth: see `results.estimates`."""
    found = [view.worth.get(trial.number) for trial in view.trials]

    def columns(pairs: Sequence[tuple[float, float] | None]) -> dict[str, list[float | None]]:
        return {key: shorts(pair and pair[i] for pair in pairs) for i, key in enumerate(("mean", "error"))}

    return {
        "tasks": {task: columns([None if e is None else e.tasks[task] for e in found]) for task in view.tasks},
        "joined": columns([None if e is None else e.joined for e in found]),
    }


def _health(view: View, split: Split, task: str) -> dict[str, list[float | None]]:
    """The rates of unsound answers."""
    columns: dict[str, list[float | None]] = {key: [] for key in _RATES}
    for trial in view.trials:
        score = trial.scores.get(split, {}).get(task)
        sound = score is not None and not score.marks.strip("0")
        health = None if score is None or sound else score.health
        for key, name in _RATES.items():
            rate = 0.0 if sound else None
            columns[key].append(rate if health is None else short(getattr(health, name)))
    return columns


def _explained(view: View, task: str) -> list[bool]:
    """Whether what a merge gains over the best expert on the search split is mostly health (`results.gain_of`)."""
    parent = view.parents["search"].get(task)
    theirs = None if parent is None else parent.scores["search"][task]
    found = []
    for trial in view.trials:
        mine = trial.scores.get("search", {}).get(task)
        if theirs is None or mine is None or trial.kind in ("base", "expert"):
            found.append(False)
        elif not mine.marks.strip("0") and not theirs.marks.strip("0"):
            found.append(False)  # no answer is unsound
        else:
            found.append(mine.gain_over(theirs).explained)
    return found
