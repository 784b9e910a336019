"""Unbiased estimates of a mean over all items from those scored so far. Knows nothing about races."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Estimate:
    """A score of one objective.

    Attributes:
        mean: unbiased estimate of the mean over all items; that mean itself where all were scored.
        error: its standard error, for the mean over these very items: 0 where all were scored.
        places: the places of the items scored, in the order in which they were drawn.
    """

    mean: float
    error: float
    places: tuple[int, ...]
