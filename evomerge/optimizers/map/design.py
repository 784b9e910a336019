"""The first points: corners of the space that mean something, and points that fill the rest.

Corners are the base (every weight 0), each expert alone (its weights 1), their uniform average and the centre of the
cube; coordinates that are no weights stand where they change least (drop rate 0), else in the middle. This file knows
nothing about scores.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import qmc

from evomerge.recipes import Dimension

Array = npt.NDArray[np.float64]

#: Points of the sequence among which the next one is chosen.
_CHOICE = 4


def corners(dimensions: Sequence[Dimension]) -> list[tuple[float, ...]]:
    """Return the corners that lie in the space; without weights only the centre."""
    experts = sorted({d.expert for d in dimensions if d.parameter == "weight" and d.expert is not None})
    found = []
    if experts and all(d.group is not None or d.name == f"weight.{d.expert}" for d in weights_of(dimensions)):
        mixes = [dict.fromkeys(experts, 0.0)]
        mixes += [{other: float(other == expert) for other in experts} for expert in experts]
        mixes += [dict.fromkeys(experts, 1.0 / len(experts))]
        for mix in mixes:
            point = [_at(d, mix.get(d.expert or "", 0.0)) for d in dimensions]
            found.append(tuple(u for u in point if u is not None))
    found.append((0.5,) * len(dimensions))
    return list(dict.fromkeys(point for point in found if len(point) == len(dimensions)))


def weights_of(dimensions: Sequence[Dimension]) -> list[Dimension]:
    """Return the dimensions that are merge weights."""
    return [d for d in dimensions if d.parameter == "weight" and not d.choices]


def default_size(count: int) -> int:
    """Return how many points to score before the first fit: one and a half full quadratics, within reason."""
    return min(3 * (count + 1) * (count + 2) // 4, max(14, count + 8), 40)


class Filler:
    """A scrambled Sobol sequence of which, at each call, the point farthest from the known ones is taken."""

    def __init__(self, count: int, seed: int) -> None:
        self._sequence = qmc.Sobol(count, scramble=True, seed=np.random.default_rng(seed))
        self.count = 0  # how often it was called

    def skip(self, count: int) -> None:
        """Go where `count` calls lead, in a fresh object."""
        self.count = count
        if count:
            self._sequence.fast_forward(count * _CHOICE)

    def next(self, known: Array) -> tuple[float, ...]:
        """Return the next point."""
        self.count += 1
        points = self._sequence.random(_CHOICE)
        if not len(known):
            return tuple(points[0].tolist())
        gaps = np.min(np.linalg.norm(points[:, None] - known, axis=2), axis=1)
        return tuple(points[int(np.argmax(gaps))].tolist())


def neutral(dimension: Dimension) -> float:
    """Return the coordinate where a parameter changes least: nothing dropped, the first choice, else the middle."""
    if dimension.choices:
        return 0.5 / len(dimension.choices)
    zero = dimension.unit(0.0) if dimension.parameter == "drop_rate" else None
    return 0.5 if zero is None else zero


def _at(dimension: Dimension, weight: float) -> float | None:
    """Return the coordinate of a weight, None if it is out of bounds; of another dimension the neutral one."""
    if dimension.parameter == "weight" and not dimension.choices:
        return dimension.unit(weight)
    return neutral(dimension)
