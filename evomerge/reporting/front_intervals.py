"""How sure is a front: how much it covers, on other items of the same kind, and which members stay on it.

The scores of a front are those of its members on the items of each task: task -> array of shape (members, items), the
members in one order. All members are scored on the same items, so items are drawn anew once for all of them (the paired
bootstrap; tasks apart from each other), and the front is taken anew in every draw.

Objectives are normalised by `anchors`, task -> (low, high), as in `statistics.py`: 0 is the base, 1 the best expert on
each task, and a hypervolume of 1 is all that lies between the base and a model as good as every expert at once; members
may reach beyond. The reference point is the base. Members below a floor, task -> score, cover nothing.

The hypervolume of noisy points is too large on average, whatever items they were chosen on, for of several members that
are near each other the luckiest one counts. The bootstrap shows by how much: its draws are to the scores what the
scores are to the truth (Efron and Tibshirani 1993, ch. 10). Estimates are less that bias; the ends of intervals are the
draws' quantiles less twice the bias, once for that of the scores and once for that of the draws. Choosing members on
these very items is another bias, which is not taken out: choose them on other items. This file knows nothing about
models or files.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from evomerge.reporting.front import hypervolumes
from evomerge.reporting.statistics import LEVEL, Anchors, Difference, Interval

Array = NDArray[np.float64]
Floors = Mapping[str, float]
Scores = Mapping[str, ArrayLike]

RESAMPLES = 1000


def hypervolume_interval(
    scores: Scores,
    anchors: Anchors,
    *,
    floors: Floors | None = None,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Interval:
    """Return the normalised hypervolume of a front, less its optimistic bias, with its interval.

    Args:
        scores: task -> (members, items).
        anchors: task -> (low, high); taken as fixed.
        floors: task -> the score that a member must reach.
        seed: of the draws.
        level: confidence level.
        resamples: how many draws.

    Raises `ValueError` for scores of different numbers of members, of none, or that are not finite.
    """
    value, draws = _drawn([scores], anchors, floors or {}, seed, resamples)
    return Interval(*_interval(value[0], draws[:, 0], level, low=0.0))


def hypervolume_difference(
    first: Scores,
    second: Scores,
    anchors: Anchors,
    *,
    floors: Floors | None = None,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> Difference:
    """Return how much more the first front covers than the second, both scored on the same items of the same tasks.

    The p-value is twice the smaller share of draws on either side of zero, the draws moved like the interval's ends.
    """
    if {task: _matrix(s).shape[1] for task, s in first.items()} != {t: _matrix(s).shape[1] for t, s in second.items()}:
        raise ValueError("the fronts are not scored on the same items")
    value, draws = _drawn([first, second], anchors, floors or {}, seed, resamples)
    differences = draws[:, 0] - draws[:, 1]
    mean, error, low, high = _interval(value[0] - value[1], differences, level)
    moved = differences + mean - differences.mean()
    p = 2 * (1 + min(int((moved <= 0).sum()), int((moved >= 0).sum()))) / (1 + resamples)
    return Difference(mean, error, low, high, min(p, 1.0))


def membership(
    scores: Scores, *, floors: Floors | None = None, seed: int = 0, resamples: int = RESAMPLES
) -> list[float]:
    """Return for each member the share of draws in which no other member beats it and it is below no floor."""
    tasks = {task: _matrix(values) for task, values in scores.items()}
    _check([tasks])
    rng = np.random.default_rng(seed)
    means = np.stack([_draw_means([values], rng, resamples)[0] for values in tasks.values()], axis=2)
    lowest = np.array([(floors or {}).get(task, -np.inf) for task in tasks])
    means = np.where((means >= lowest).all(axis=2, keepdims=True), means, -np.inf)
    ours, others = means[:, :, None, :], means[:, None, :, :]
    beats = np.all(others >= ours, axis=3) & np.any(others > ours, axis=3)
    on = ~np.any(beats, axis=2) & np.isfinite(means[:, :, 0])
    return [float(share) for share in np.mean(on, axis=0)]


def _drawn(
    fronts: Sequence[Scores], anchors: Anchors, floors: Floors, seed: int, resamples: int
) -> tuple[list[float], Array]:
    """Return the hypervolume of each front and those of its draws, (resamples, fronts), the same items in all."""
    matrices = [{task: _matrix(values) for task, values in scores.items()} for scores in fronts]
    _check(matrices)
    rng = np.random.default_rng(seed)
    tasks = list(matrices[0])
    observed = [np.stack([front[task].mean(axis=1) for task in tasks], axis=1) for front in matrices]
    by_task = [_draw_means([front[task] for front in matrices], rng, resamples) for task in tasks]
    low = np.array([anchors[task][0] for task in tasks])
    span = np.array([anchors[task][1] - anchors[task][0] for task in tasks])
    scale = np.where(span > 0, span, 1.0)
    lowest = np.array([floors.get(task, -np.inf) for task in tasks])

    def volumes(points: Array) -> Array:
        met = (points >= lowest).all(axis=2, keepdims=True)
        return hypervolumes(np.where(met, (points - low) / scale, 0.0), np.zeros(len(tasks)))

    draws = [volumes(np.stack([of_task[i] for of_task in by_task], axis=2)) for i in range(len(fronts))]
    return [float(volumes(points[None])[0]) for points in observed], np.stack(draws, axis=1)


def _draw_means(fronts: Sequence[Array], rng: np.random.Generator, resamples: int) -> list[Array]:
    """Return for each front the means, (resamples, members), over the same items drawn with replacement."""
    items = fronts[0].shape[1]
    shares = rng.multinomial(items, np.full(items, 1 / items), size=resamples) / items
    return [shares @ scores.T for scores in fronts]


def _interval(value: float, draws: Array, level: float, low: float = -np.inf) -> tuple[float, float, float, float]:
    bias = float(draws.mean()) - value
    ends = np.quantile(draws, ((1 - level) / 2, (1 + level) / 2)) - 2 * bias
    return (
        max(value - bias, low),
        float(draws.std(ddof=1)),
        max(float(ends[0]), low),
        max(float(ends[1]), low),
    )


def _check(fronts: Sequence[Mapping[str, Array]]) -> None:
    for front in fronts:
        if not front or len({len(scores) for scores in front.values()}) != 1:
            raise ValueError("a front needs scores of the same members on at least one task")


def _matrix(scores: ArrayLike) -> Array:
    matrix = np.asarray(scores, dtype=np.float64)
    if matrix.ndim != 2 or 0 in matrix.shape or not np.isfinite(matrix).all():
        raise ValueError(f"expected finite scores of shape (members, items), got {matrix.shape}")
    return matrix
