"""How sure are we: standard errors, intervals and paired tests of scores that are means over items.

Pure functions of numbers. What holds everywhere:

A score of one model on one task is a sequence of per-item scores; two models are compared on the same items, in the
same order. Items are the only source of chance: a result speaks about other items of the same kind, for these very
models. Sequences that are empty, of different lengths or hold NaN or infinite numbers are a `ValueError`.

Several tasks are joined as the mean over tasks of normalised scores, (score - low) / (high - low), their items being
independent of each other; the mean is weighted by `weights`, task -> number >= 0, not all 0 (None: all alike).
`anchors` gives (low, high) for each task, the scores of base and best expert; they are taken as fixed, and should come
from other items (another split). Where high <= low a task's scores are used as they are.

This file knows nothing about models, tasks or files.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95

Vector = NDArray[np.float64]
Anchors = Mapping[str, tuple[float, float]]
Weights = Mapping[str, float]
Pair = tuple[ArrayLike, ArrayLike]


@dataclass(frozen=True)
class Interval:
    """An estimate with its standard error and the ends of its confidence interval."""

    mean: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference(Interval):
    """First model minus second: an interval, and the two-sided p-value of "there is no difference".

    Interval and p-value come from different approximations; near the limit one may say yes and the other no.
    """

    p: float


# ---- one model -----------------------------------------------------------------------------------------------------


def mean_with_error(scores: ArrayLike) -> tuple[float, float]:
    """Return the mean of per-item scores and its standard error, s / sqrt(n) with s over n - 1 (as lm-eval does).

    One item tells nothing about the spread: its error is 0.5, the largest that a score in [0, 1] can have, or infinite
    for a score outside. Equal scores have the error 0: use `mean_interval` for what that means.
    """
    values = _vector(scores)
    mean = float(values.mean())
    if len(values) > 1:
        return mean, float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, 0.5 if 0.0 <= mean <= 1.0 else math.inf


def mean_interval(scores: ArrayLike, *, level: float = LEVEL) -> Interval:
    """Return the mean of per-item scores with its confidence interval: Wilson's for scores 0 and 1, else Student's t.

    For scores in [0, 1] the interval is cut to [0, 1]. One item that is neither 0 nor 1 has the interval [0, 1], or
    the whole line where it lies outside.
    """
    values = _vector(scores)
    if np.isin(values, (0.0, 1.0)).all():
        return wilson_interval(int(values.sum()), len(values), level=level)
    bounds = (0.0, 1.0) if values.min() >= 0.0 and values.max() <= 1.0 else (-math.inf, math.inf)
    return _t_interval(values, level, bounds)


def wilson_interval(successes: int, n: int, *, level: float = LEVEL) -> Interval:
    """Return Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001, eq. 4).

    Never of zero width, and inside [0, 1] by construction.
    """
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} successes of {n}")
    p, z2 = successes / n, _normal_quantile((1 + level) / 2) ** 2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) + z2 / (4 * n)) / n) / (1 + z2 / n)
    error = math.sqrt(p * (1 - p) / (n - 1)) if n > 1 else 0.5
    low = 0.0 if successes == 0 else centre - half  # exact at the ends, where rounding would leave a trace
    return Interval(p, error, low, 1.0 if successes == n else centre + half)


def mean_normalised(
    scores: Mapping[str, ArrayLike], anchors: Anchors, *, weights: Weights | None = None, level: float = LEVEL
) -> Interval:
    """Return the mean over tasks of normalised scores, with its standard error and interval.

    Args:
        scores: task -> per-item scores.
        anchors: task -> (low, high).
        weights: task -> weight.
        level: confidence level.

    The error is propagated from the tasks' errors; the interval joins the tasks' own intervals by the method of
    variance estimates recovery (Zou and Donner 2008), which keeps their asymmetry near 0 and 1.
    """
    factors = task_factors(scores, anchors, weights)
    offset = -sum(factors[task] * anchors[task][0] for task in scores if _scaled(anchors[task]))
    joined = _join([(factors[task], mean_interval(values, level=level)) for task, values in scores.items()])
    return Interval(joined.mean + offset, joined.error, joined.low + offset, joined.high + offset)


# ---- two models on the same items ----------------------------------------------------------------------------------


def paired_difference(first: ArrayLike, second: ArrayLike, *, level: float = LEVEL) -> Difference:
    """Return first minus second on the same items.

    For scores 0 and 1: the adjusted Wald interval (Bonett and Price 2012, eq. 3) and the exact McNemar test
    (`mcnemar_p`). Otherwise Student's t interval of the differences and the sign-flip test (`flip_p`).
    """
    return _difference({"": _minus(first, second)}, {"": 1.0}, level)


def normalised_difference(
    pairs: Mapping[str, Pair], anchors: Anchors, *, weights: Weights | None = None, level: float = LEVEL
) -> Difference:
    """Return the difference of two models' mean normalised scores.

    Args:
        pairs: task -> (per-item scores of the first model, of the second).
        anchors: task -> (low, high).
        weights: task -> weight.
        level: confidence level.

    Error and interval as in `mean_normalised`; the p-value is `flip_p`'s over the items of all tasks (with a single
    task of scores 0 and 1, McNemar's).
    """
    return _difference(
        {task: _minus(*pair) for task, pair in pairs.items()}, task_factors(pairs, anchors, weights), level
    )


def pooled_difference(runs: Sequence[Mapping[str, Pair]], anchors: Anchors, *, level: float = LEVEL) -> Difference:
    """Return the mean over runs of `normalised_difference`, with an interval and a test of that mean.

    Args:
        runs: for each run (seed), task -> (per-item scores of its first model, of its second). All runs have the same
            tasks and, for each task, the same items in the same order.
        anchors: task -> (low, high), common to all runs.
        level: confidence level.

    Runs that differ in the seed are scored on the same items, often against the same second model, so their
    differences on an item go together. Adding up the runs' tests as if they were independent (stratified, or by inverse
    variance) would count each item several times. Here an item's differences are averaged over runs first: items remain
    the unit of chance, and whatever correlation there is between runs is in the averages' spread. The result speaks
    about these runs' models on other items; how much runs differ is seen in the runs one by one.
    """
    if not runs:
        raise ValueError("no runs to pool")
    if any(set(run) != set(runs[0]) for run in runs):
        raise ValueError("the runs have different tasks")
    differences = {}
    for task in runs[0]:
        rows = [_minus(*run[task]) for run in runs]
        if len({len(row) for row in rows}) > 1:
            raise ValueError(f"the runs have different numbers of items of {task}")
        differences[task] = np.mean(rows, axis=0)
    return _difference(differences, task_factors(differences, anchors, None), level)


def mcnemar_p(wins: int, losses: int) -> float:
    """Return the exact two-sided McNemar p-value (a sign test of the items on which two models differ); 1 if none."""
    n = wins + losses
    return min(1.0, 2.0 * float(stats.binom.cdf(min(wins, losses), n, 0.5))) if n else 1.0


def flip_p(differences: Mapping[str, ArrayLike], factors: Mapping[str, float]) -> float:
    """Return the two-sided p-value of sum over tasks of factor * mean difference, in closed form.

    Under the hypothesis that the models are alike, each item's difference is as likely to have the other sign. The
    variance of the statistic over all such flips is sum factor^2 sum d^2 / n^2; its distribution is taken as normal. On
    scores 0 and 1 this is McNemar's test without continuity correction. 1 if no item differs.
    """
    statistic, variance = 0.0, 0.0
    for task, values in differences.items():
        d = _vector(values)
        statistic += factors[task] * float(d.mean())
        variance += factors[task] ** 2 * float(np.square(d).sum()) / len(d) ** 2
    return 2.0 * float(stats.norm.sf(abs(statistic) / math.sqrt(variance))) if variance else 1.0


def flip_p_resampled(differences: ArrayLike, *, seed: int, flips: int = 9999) -> float:
    """Return the two-sided p-value of a mean difference by flipping signs (Fisher 1935), without any approximation.

    All 2^k flips are tried where k <= 12 items differ; otherwise `flips` random ones, the observed one counted in
    (Phipson and Smyth 2010). 1 if no item differs.
    """
    d = _vector(differences)
    d = d[d != 0]
    observed = abs(d.sum()) * (1 - 1e-12)  # sums that are equal but for rounding count as equal
    if len(d) <= 12:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=len(d)))).reshape(2 ** len(d), len(d))
        return float(np.mean(np.abs(signs @ d) >= observed))
    rng = np.random.default_rng(seed)
    beyond = sum(abs(rng.choice((-1.0, 1.0), len(d)) @ d) >= observed for _ in range(flips))
    return float((1 + beyond) / (1 + flips))


def bootstrap_interval(values: ArrayLike, *, seed: int, level: float = LEVEL, resamples: int = 10_000) -> Interval:
    """Return the mean of per-item scores or differences with its percentile bootstrap interval (Efron 1979).

    Equal values give an interval of zero width; with fewer than some 20 items it is too narrow.
    """
    data = _vector(values)
    rng = np.random.default_rng(seed)
    means = np.array([data[rng.integers(0, len(data), len(data))].mean() for _ in range(resamples)])
    low, high = np.quantile(means, ((1 - level) / 2, (1 + level) / 2))
    return Interval(*mean_with_error(data), float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for several tests, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def task_factors(tasks: Mapping[str, object], anchors: Anchors, weights: Weights | None) -> dict[str, float]:
    """Return task -> what a task's raw score is multiplied with in the mean normalised score."""
    if not tasks:
        raise ValueError("no tasks")
    shares = dict.fromkeys(tasks, 1.0) if weights is None else {task: weights[task] for task in tasks}
    if min(shares.values()) < 0 or not sum(shares.values()) > 0:
        raise ValueError(f"weights {shares} must not be negative, and one must be above 0")
    return {
        task: share / (sum(shares.values()) * (anchors[task][1] - anchors[task][0] if _scaled(anchors[task]) else 1.0))
        for task, share in shares.items()
    }


# ---- parts ---------------------------------------------------------------------------------------------------------


def _vector(values: ArrayLike) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError("expected a sequence of at least one score")
    if not np.isfinite(vector).all():
        raise ValueError("scores must be finite numbers")
    return vector


def _minus(first: ArrayLike, second: ArrayLike) -> Vector:
    a, b = _vector(first), _vector(second)
    if len(a) != len(b):
        raise ValueError(f"paired scores of {len(a)} and {len(b)} items")
    return a - b


def _scaled(anchor: tuple[float, float]) -> bool:
    return anchor[1] > anchor[0]


def _difference(differences: Mapping[str, Vector], factors: Mapping[str, float], level: float) -> Difference:
    joined = _join([(factors[task], _difference_interval(d, level)) for task, d in differences.items()])
    (first, *others) = differences.values()
    if not others and _signs_only(first):
        p = mcnemar_p(int((first > 0).sum()), int((first < 0).sum()))
    else:
        p = flip_p(differences, factors)
    return Difference(joined.mean, joined.error, joined.low, joined.high, p)


def _join(parts: Sequence[tuple[float, Interval]]) -> Interval:
    """Return sum of factor * estimate over independent parts, factors >= 0 (Zou and Donner 2008, eq. 3)."""
    mean = sum(factor * part.mean for factor, part in parts)
    error = math.hypot(*(factor * part.error for factor, part in parts))
    low = mean - math.hypot(*(factor * (part.mean - part.low) for factor, part in parts))
    high = mean + math.hypot(*(factor * (part.high - part.mean) for factor, part in parts))
    return Interval(mean, error, low, high)


@lru_cache
def _normal_quantile(p: float) -> float:
    """Remembered: SciPy takes longer for it than all the rest of an interval does."""
    return float(stats.norm.ppf(p))


def _signs_only(differences: Vector) -> bool:
    return bool(np.isin(differences, (-1.0, 0.0, 1.0)).all())


def _difference_interval(d: Vector, level: float) -> Interval:
    """Return the interval of a mean of paired differences; cut to [-1, 1] where none of them lies outside."""
    bounds = (-1.0, 1.0) if np.abs(d).max() <= 1.0 else (-math.inf, math.inf)
    n, wins, losses = len(d), int((d > 0).sum()), int((d < 0).sum())
    if n == 1:
        return Interval(float(d[0]), bounds[1], *bounds)
    if not _signs_only(d):
        return _t_interval(d, level, bounds)
    p, q = (wins + 1) / (n + 2), (losses + 1) / (n + 2)
    half = _normal_quantile((1 + level) / 2) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
    return Interval(*mean_with_error(d), max(p - q - half, -1.0), min(p - q + half, 1.0))


def _t_interval(values: Vector, level: float, bounds: tuple[float, float]) -> Interval:
    mean, error = mean_with_error(values)
    if len(values) == 1:
        return Interval(mean, error, *bounds)
    half = float(stats.t.ppf((1 + level) / 2, len(values) - 1)) * error
    return Interval(mean, error, max(mean - half, bounds[0]), min(mean + half, bounds[1]))
