"""Items: which of them a candidate solves, so that scores are as noisy, and as comparable, as those of real models.

Each item has a threshold for each candidate, a standard normal number; an item that a candidate solves with probability
p is solved iff the threshold lies below the p-quantile of the normal distribution. So scores are binomial, and how the
thresholds of two candidates go together says how paired comparisons behave. This file knows nothing about merging.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

Vector = NDArray[np.float64]

#: Waves that make up the taste of an item.
WAVES = 64


@dataclass(frozen=True)
class Traits:
    """What the variance of a threshold is made of; the shares add up to 1.

    The defaults were fitted to the recorded grid of the zoo: two models that solve about half of the items and differ
    by one step of the grid (1/6 of one side) differ in 5 % of the items, those at opposite ends in 30 %.

    Attributes:
        difficulty: the same for all candidates: some items are hard.
        taste: a smooth random function of the candidate's place, another one for each item: neighbours solve the same
            items, distant candidates of equal score solve others.
        chance: of this very candidate and item alone.
        length: over which taste changes, in units of the root of the number of dimensions (half the diagonal of the
            cube is 0.5).
    """

    difficulty: float = 0.40
    taste: float = 0.59
    chance: float = 0.01
    length: float = 0.40

    def __post_init__(self) -> None:
        """Refuse shares that do not make a whole."""
        shares = (self.difficulty, self.taste, self.chance)
        if min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-9 or self.length <= 0:
            raise ValueError(f"{self}: the shares must be >= 0 and add up to 1, the length must be above 0")


class Thresholds:
    """The thresholds of some items, frozen: the same candidate always gets the same ones.

    Args:
        items: how many.
        dimensions: of a candidate's vector.
        seed: anything that `numpy.random.SeedSequence` takes.
        traits: what they are made of.
    """

    def __init__(self, items: int, dimensions: int, *, seed: list[int], traits: Traits) -> None:
        rng = np.random.default_rng(seed)
        self._seed, self._traits = repr(seed).encode(), traits
        self._difficulty = rng.standard_normal(items)
        # A sum of cosines and sines with normal amplitudes is normal at every place, whatever the frequencies.
        self._waves = rng.standard_normal((dimensions, WAVES)) / (traits.length * np.sqrt(dimensions))
        self._amplitudes = rng.standard_normal((2 * WAVES, items)) / np.sqrt(WAVES)

    def __call__(self, vector: Vector) -> Vector:
        """Return the thresholds of the candidate at `vector`, shape (dimensions,); shape (items,)."""
        phase = vector @ self._waves
        taste = np.concatenate([np.cos(phase), np.sin(phase)]) @ self._amplitudes
        digest = hashlib.sha256(self._seed + vector.tobytes()).digest()
        own = np.random.default_rng(int.from_bytes(digest[:16], "little")).standard_normal(len(self._difficulty))
        shares = np.sqrt([self._traits.difficulty, self._traits.taste, self._traits.chance])
        return np.asarray(shares @ np.stack([self._difficulty, taste, own]))

    def solved(self, vector: Vector, probabilities: Vector | float) -> Vector:
        """Return for each item 1.0 where the candidate solves it, else 0.0, shape (items,)."""
        return np.asarray(self(vector) < ndtri(probabilities), dtype=np.float64)
