"""In which order a candidate's items are scored: drawn one by one, without replacement, the telling ones sooner.

Every draw has a known probability for every item that is left: that keeps estimates unbiased and bets fair. This file
knows nothing about scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Places = NDArray[np.int64]

#: This share of every draw is uniform, so that no item counts more than twice what it does in a uniform order.
UNIFORM = 0.5


@dataclass(frozen=True)
class Draws:
    """Items drawn one after the other.

    Attributes:
        left: places of the n items that were left before the first draw.
        drawn: for each of the m draws, in order, the index in `left` of the item drawn.
        chances: (m, n), the probability of each item of `left` in each draw. For items drawn before, the number is
            what it would be if they were still there.
    """

    left: Places
    drawn: Places
    chances: Matrix

    @property
    def places(self) -> Places:
        """The places of the items drawn, in order."""
        return self.left[self.drawn]

    def part(self, start: int, stop: int) -> "Draws":
        """Return draws `start` to `stop` (exclusive) alone, with what was left before them."""
        stay = np.ones(len(self.left), dtype=bool)
        stay[self.drawn[:start]] = False
        index = np.cumsum(stay) - 1
        return Draws(self.left[stay], index[self.drawn[start:stop]], self.chances[start:stop][:, stay])


def draw(left: Places, information: Vector, count: int, generator: np.random.Generator) -> Draws:
    """Draw `count` of the items that are left, one after the other.

    Args:
        left: places of the items to draw from.
        information: for each of them, how much its score will tell, >= 0; where all are 0 the order is uniform.
        count: how many, at most all.
        generator: the source of chance.

    The probability of an item in a draw is `UNIFORM` of a uniform one plus the rest in proportion to information.
    """
    there = np.ones(len(left), dtype=bool)
    weights = np.array(information, dtype=np.float64)
    drawn = np.empty(count, dtype=np.int64)
    chances = np.empty((count, len(left)))
    for step in range(count):
        total = weights[there].sum()
        told = weights / total if total > 0.0 else np.full(len(left), 1.0 / there.sum())
        chances[step] = UNIFORM / there.sum() + (1.0 - UNIFORM) * told
        ends = np.cumsum(np.where(there, chances[step], 0.0))
        chosen = int(np.searchsorted(ends, generator.random() * ends[-1], side="right"))
        drawn[step] = min(chosen, int(np.flatnonzero(there)[-1]))
        there[drawn[step]] = False
    return Draws(np.asarray(left, dtype=np.int64), drawn, chances)
