"""Shrinkage: what the scores of many candidates say once luck is taken out.

The best of many noisy scores is too good: it was found by looking for luck (the winner's curse). If the candidates'
true scores are spread normally about a centre, and the spread is learned from the scores themselves (empirical Bayes),
the posterior mean of each is unbiased even for the candidate that came out best: every score moves towards the centre,
the farther the larger its error is against the spread.

Pure functions of numbers. Sequences that are empty, of different lengths, or hold NaN or infinite numbers are a
`ValueError`. What no such method takes out: luck that candidates have in common because one was made from the other.
This file knows nothing about models or tasks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize

Vector = NDArray[np.float64]

#: Of fewer scores the spread cannot be told from the noise, and they are left as they are.
FEWEST = 4


@dataclass(frozen=True)
class Shrunk:
    """Scores without luck.

    Attributes:
        means, errors: posterior mean and standard deviation of each, in the order given.
        centre, spread: mean and standard deviation of the true scores, estimated from the better half.
    """

    means: tuple[float, ...]
    errors: tuple[float, ...]
    centre: float
    spread: float


@dataclass(frozen=True)
class ItemNoise:
    """Where the noise of scores on common items comes from, as standard deviations of the score of one item.

    Attributes:
        own: what an item adds to one candidate's score and not to the others'; over the root of the number of items
            it is the error with which candidates are compared.
        common: what an item adds to the scores of all, some being hard for every candidate.
    """

    own: float
    common: float


def shrink(means: Sequence[float], errors: Sequence[float]) -> Shrunk:
    """Return posterior means and errors of noisy scores (Morris 1983, "Parametric empirical Bayes inference").

    Score i is normal about its true score with the standard error `errors[i]`, the true scores are normal about a
    centre. The spread is that with which the squared distances from the centre, each over its variance, are 1 on
    average (Paule and Mandel 1982). Shrinkage is lessened by (n - 3) / (n - 1), and errors are widened for what is not
    known of centre and spread (Morris, §4).

    Centre and spread are those of the better half: the weighted median, and the distances of the scores above it. In a
    search some candidates are broken; a spread that they blow up would leave the best ones, which matter, unshrunk.

    Fewer than four scores are returned as they are. Where there is no spread all are the centre; a score without error
    stays where it is.
    """
    y, v = _vector(means), np.square(_vector(errors))
    if len(y) != len(v):
        raise ValueError(f"{len(y)} scores with {len(v)} errors")
    if (np.asarray(errors) < 0).any():
        raise ValueError("errors must not be negative")
    n = len(y)
    if n < FEWEST:
        return Shrunk(tuple(y.tolist()), tuple(np.sqrt(v).tolist()), float(np.median(y)), math.inf)
    least = max(1e-18 * (float(np.ptp(y)) ** 2 + float(v.max())), 1e-300)  # in place of 0: no error and no spread
    centre, variance = _prior(y, v, least)
    total = np.maximum(v + variance, least)
    share = (n - 3) / (n - 1) * v / total
    typical = n / float((1 / total).sum())  # harmonic mean of the variances
    of_centre = share**2 * typical / n
    of_spread = 2 / (n - 3) * share**2 * typical / total * np.square(y - centre)
    return Shrunk(
        tuple((y + share * (centre - y)).tolist()),
        tuple(np.sqrt((1 - share) * v + of_centre + of_spread).tolist()),
        centre,
        math.sqrt(variance),
    )


def item_noise(scores: ArrayLike) -> ItemNoise:
    """Return the noise of scores, shape (candidates, items), at least two of each: the two-way analysis of variance.

    `own` is the residual after each candidate's mean and each item's mean, `common` the spread of the items' means less
    what of it is `own`.
    """
    data = np.asarray(scores, dtype=np.float64)
    if data.ndim != 2 or min(data.shape) < 2 or not np.isfinite(data).all():
        raise ValueError(f"expected finite scores of two candidates and two items at least, got shape {data.shape}")
    candidates, items = data.shape
    by_item = data.mean(axis=0)
    residual = data - by_item - data.mean(axis=1, keepdims=True) + data.mean()
    own = float(np.square(residual).sum()) / ((candidates - 1) * (items - 1))
    common = max(float(by_item.var(ddof=1)) - own / candidates, 0.0)
    return ItemNoise(math.sqrt(own), math.sqrt(common))


def _prior(y: Vector, v: Vector, least: float) -> tuple[float, float]:
    """Return centre and variance of the true scores, each from the other until they agree."""
    variance = float(y.var())
    for _ in range(20):
        centre = _weighted_median(y, least / np.maximum(v + variance, least))
        before, variance = variance, _variance(y - centre, v, least)
        if math.isclose(before, variance, rel_tol=1e-6):
            break
    return centre, variance


def _weighted_median(y: Vector, weights: Vector) -> float:
    order = np.argsort(y, kind="stable")
    below = np.cumsum(weights[order] / weights.max())
    return float(y[order][np.searchsorted(below, below[-1] / 2)])


def _variance(distances: Vector, v: Vector, least: float) -> float:
    """Return the variance of true scores about the centre: that of Paule and Mandel, from the distances above it.

    Scores at the centre count half, as if half of them were above.
    """
    above = distances > 0
    squared, noise = np.square(distances[above]), v[above]
    count = int(above.sum()) + int((distances == 0).sum()) / 2

    def excess(variance: float) -> float:
        return float((squared / np.maximum(noise + variance, least)).sum()) - count

    if not above.any() or excess(0.0) <= 0:
        return 0.0
    return float(optimize.brentq(excess, 0.0, float(squared.sum()) / count, xtol=least))


def _vector(values: Sequence[float]) -> Vector:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or len(vector) == 0:
        raise ValueError("expected a sequence of at least one score")
    if not np.isfinite(vector).all():
        raise ValueError("scores and errors must be finite numbers")
    return vector
