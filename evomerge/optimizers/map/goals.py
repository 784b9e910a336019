"""What is to be made large, as a few utilities of a vector of scores.

A front is judged by its hypervolume, written as a mean over directions of the best point's utility in each (Zhang and
Golovin 2020, arXiv 2006.04655, lemma 5): for scores g above a reference and a direction v of the positive sphere, the
utility is min_i (g_i / v_i)^m. A single goal is one utility. The gain of a new point is what it adds to the best
utilities so far, averaged over its uncertainty: expected improvement, of the hypervolume or of the single goal. This
file knows nothing about surrogates.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri
from scipy.stats import qmc

from evomerge.optimizers.base import Objective
from evomerge.optimizers.scalarization import Scalarization

Array = npt.NDArray[np.float64]

#: Draws of a prediction.
DRAWS = 16
#: Of a score below the reference, so that there is a slope to climb even where no point is above it.
_BELOW = 1e-3
#: Of the expected utility itself, next to its improvement.
_LEAST = 1e-9


class Goal(Protocol):
    """Utilities of scores."""

    def utilities(self, values: Array) -> Array:
        """Return utilities (n, k) of scores (n, m), larger is better."""


class FrontGoal:
    """The hypervolume of the scores above a reference, normalised; with one objective the score itself.

    The reference is the base's score (0 on the normalised scale) where it is known, else a tenth of the range below the
    worst of `values`. Objectives with larger weights get more of the directions, one of weight 0 is left out. Where a
    floor is missed the utility is minus the shortfall.
    """

    def __init__(self, objectives: Sequence[Objective], values: Array, weights: Sequence[float] | None = None) -> None:
        self.objectives = tuple(objectives)
        scores = normalised(objectives, values)
        low = scores.min(axis=0) - 0.1 * np.ptp(scores, axis=0) - 1e-9
        known = np.array([o.low is not None and o.high is not None and o.high > o.low for o in objectives])
        self._reference = np.where(known, 0.0, low)
        weights = [o.weight for o in objectives] if weights is None else weights
        self._kept = np.array(weights, dtype=float) > 0
        if not self._kept.any():
            self._kept[:] = True
            weights = [1.0] * len(self._kept)
        self._directions = _directions(tuple(float(w) for w, kept in zip(weights, self._kept, strict=True) if kept))

    def utilities(self, values: Array) -> Array:
        """See `Goal`."""
        above = (normalised(self.objectives, values) - self._reference)[:, self._kept]
        m = above.shape[1]
        if m == 1:
            found = above
        else:
            least = (above[:, None, :] / self._directions).min(axis=2)
            found = np.where(least > 0.0, np.maximum(least, 0.0) ** m, _BELOW * least)
        short = shortfalls(self.objectives, values)[:, None]
        return np.where(short > 0.0, -short, found)


class SingleGoal:
    """A scalarization."""

    def __init__(self, objectives: Sequence[Objective], scalarize: Scalarization) -> None:
        self.objectives, self._scalarize = tuple(objectives), scalarize

    def utilities(self, values: Array) -> Array:
        """See `Goal`."""
        return np.array([[self._scalarize(self.objectives, row)] for row in values.tolist()])


def normalised(objectives: Sequence[Objective], values: Array) -> Array:
    """Return scores (n, m) on the scale where 0 is the base and 1 the best expert; see `Objective.normalise`."""
    columns = []
    for objective, column in zip(objectives, np.asarray(values, dtype=float).T, strict=True):
        zero = objective.normalise(0.0)
        columns.append(zero + (objective.normalise(1.0) - zero) * column)
    return np.stack(columns, axis=1)


def shortfalls(objectives: Sequence[Objective], values: Array) -> Array:
    """Return how far scores (n, m) lie below the floors, summed, (n,)."""
    scores, total = normalised(objectives, values), np.zeros(len(values))
    for j, objective in enumerate(objectives):
        if objective.floor is not None:
            total += np.maximum(objective.normalise(objective.floor) - scores[:, j], 0.0)
    return total


def gains(goal: Goal, best: Array, draws: Array) -> Array:
    """Return the expected improvement of each candidate over the best utilities (k,); draws are (s, n, m).

    Where nothing improves on the best any more, the expected utilities themselves decide.
    """
    s, n, m = draws.shape
    found = goal.utilities(draws.reshape(s * n, m)).reshape(s, n, -1)
    return np.asarray((np.maximum(found - best, 0.0) + _LEAST * found).mean(axis=(0, 2)))


@lru_cache(maxsize=8)
def normals(m: int) -> Array:
    """Return `DRAWS` points of an m-dimensional normal distribution, evenly spread and always the same."""
    sequence = qmc.Sobol(m, scramble=True, seed=np.random.default_rng(0))
    return np.asarray(ndtri(np.clip(sequence.random(DRAWS), 1e-6, 1 - 1e-6)))


@lru_cache(maxsize=32)
def _directions(weights: tuple[float, ...]) -> Array:
    m = len(weights)
    count = 1 if m == 1 else 32 if m == 2 else 64
    sequence = qmc.Sobol(m, scramble=True, seed=np.random.default_rng(1))
    found = np.abs(ndtri(np.clip(sequence.random(count), 1e-6, 1 - 1e-6))) * np.array(weights) / max(weights)
    return np.asarray(found / np.linalg.norm(found, axis=1, keepdims=True))
