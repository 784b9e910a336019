"""Points of the unit cube: many as one array, which are the same recipe, which are new. Knows nothing about scores."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from evomerge.recipes import Dimension

#: A point that is as near as this to another in every coordinate is no news: no score of a few hundred items tells them
#: apart, and as all points are scored on the same items, a second score is not even a second opinion.
SMALLEST_STEP = 0.01

Array = NDArray[np.float64]


class Rows:
    """Rows of numbers that grow, as one array.

    Args:
        width: numbers in a row.
    """

    def __init__(self, width: int) -> None:
        self._array, self._count = np.empty((64, width)), 0

    def __len__(self) -> int:
        """Return how many rows."""
        return self._count

    def append(self, row: Sequence[float]) -> None:
        """Add a row."""
        if self._count == len(self._array):
            self._array = np.concatenate([self._array, np.empty_like(self._array)])
        self._array[self._count] = row
        self._count += 1

    @property
    def all(self) -> Array:
        """The rows so far."""
        return self._array[: self._count]

    def last(self, count: int) -> Array:
        """Return the last rows."""
        return self._array[max(self._count - count, 0) : self._count]


def method_of(dimensions: Sequence[Dimension], vector: Sequence[float]) -> str | None:
    """Return the merge method that a point chooses, None where the method is not searched."""
    found = (d.value(u) for d, u in zip(dimensions, vector, strict=True) if d.parameter == "method" and d.choices)
    return next((str(method) for method in found), None)


def plays(dimension: Dimension, method: str | None) -> bool:
    """Say whether a coordinate plays a part in recipes of this method."""
    return method is None or not dimension.methods or method in dimension.methods


def tidy(dimensions: Sequence[Dimension], vector: Sequence[float]) -> tuple[float, ...]:
    """Return the point that stands for all points of the same recipe.

    Choices are moved to the middle of their parts, and coordinates that the point's method does not know to the middle.
    """
    method = method_of(dimensions, vector)
    return tuple(
        0.5
        if not plays(d, method)
        else (min(int(u * len(d.choices)), len(d.choices) - 1) + 0.5) / len(d.choices)
        if d.choices
        else float(u)
        for d, u in zip(dimensions, vector, strict=True)
    )


def is_news(vector: Sequence[float], known: Sequence[Sequence[float]] | Array) -> bool:
    """Say whether a point is away from all known ones in at least one coordinate."""
    if not len(known):
        return True
    return bool(np.abs(np.asarray(known) - np.asarray(vector)).max(axis=1).min() >= SMALLEST_STEP)


def sobol_point(dimensions: int, index: int, *, seed: int) -> tuple[float, ...]:
    """Return a point of a scrambled Sobol sequence (Joe and Kuo 2008), by its index from 0."""
    sequence = qmc.Sobol(dimensions, scramble=True, seed=np.random.default_rng(seed))
    if index:
        sequence.fast_forward(index)
    return tuple(float(u) for u in sequence.random(1)[0])
