"""Unbiased estimates of a mean over all items from those scored so far, in the order in which they were drawn.

Every draw gives an estimate of its own that is unbiased given all draws before it: what is known, plus what is expected
of the rest, plus the surprise of the item drawn over its probability. A mean of these with weights fixed beforehand is
unbiased too; the weights are those of Farquhar, Gal and Rainforth (arXiv 2101.11665), which give the plain mean
where the order is uniform and nothing is expected. This file knows nothing about races.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.search.racing.order import Draws, Matrix, Vector

#: Squared error of one draw that is assumed of this many draws more: a few items without a surprise prove little.
PRIOR_DRAWS = 1.0
PRIOR_VARIANCE = 0.25


@dataclass(frozen=True)
class Estimate:
    """A score of one objective.

    Attributes:
        mean: unbiased estimate of the mean over all items, so now and then a little below 0 or above 1; that mean
            itself where all were scored.
        error: its standard error as an estimate of the mean over these very items: 0 where all were scored.
        places: the places of the items scored, in the order in which they were drawn.
    """

    mean: float
    error: float
    places: tuple[int, ...]


def unbiased_steps(
    expected: Matrix, draws: Draws, scores: Vector, *, scored: float, size: int
) -> tuple[Matrix, Matrix]:
    """Return, for each draw, an unbiased estimate of the mean over all items, and the largest value it could have had.

    Args:
        expected: (k, n): k different expectations of the scores of the n items left before the first draw.
        draws: the m draws.
        scores: (m,) the scores found.
        scored: sum of the scores of all items drawn before.
        size: number of all items.

    Returns two arrays (k, m). Given the draws before, the estimate's mean is the mean over all items, whatever was
    expected, and for scores in [0, 1] it is never above the limit.
    """
    surprises = scores - expected[:, draws.drawn]
    before = np.cumsum(surprises, axis=1) - surprises
    known = scored + expected.sum(axis=1, keepdims=True) + before
    chance = draws.chances[np.arange(len(scores)), draws.drawn]
    highest = ((1.0 - expected[:, None]) / draws.chances).max(axis=2, initial=-np.inf)
    return (known + surprises / chance) / size, (known + highest) / size


def weights(drawn: int, size: int) -> Vector:
    """Return the weight of each of the first draws out of `size` items: positive numbers that sum to one.

    Without replacement later draws are more precise than earlier ones; the last of all is exact.
    """
    if drawn == size:
        return np.append(np.zeros(size - 1), 1.0)
    left = size - np.arange(drawn, dtype=np.float64)  # items left before each draw
    shares: Vector = size * (size - drawn) / (drawn * left * (left - 1.0))
    return shares


def combine(steps: Sequence[float], size: int) -> tuple[float, float]:
    """Join the estimates of single draws; return mean and standard error.

    The estimates are uncorrelated, so the variance is the weighted sum of their squared deviations. A draw's spread
    shrinks with the items left; on that scale, `PRIOR_DRAWS` draws of `PRIOR_VARIANCE` are added to those seen.
    """
    values, share = np.asarray(steps), weights(len(steps), size)
    mean = float(share @ values)
    if len(values) == size:
        return mean, 0.0
    left = 1.0 - np.arange(len(values)) / size
    spread = (float((((values - mean) / left) ** 2).sum()) + PRIOR_DRAWS * PRIOR_VARIANCE) / len(values)
    return mean, math.sqrt(spread * float(((share * left) ** 2).sum()))
