"""How long the rest will take, with a range, from how long the items so far took. Pure functions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from scipy import stats

#: With fewer results than this nothing is said.
FEWEST = 3


@dataclass(frozen=True)
class Range:
    """Seconds: what is expected, and between which bounds with about 95 % probability."""

    low: float
    expected: float
    high: float

    def after(self, seconds: float) -> "Range":
        """Return the range some seconds later, none of it below zero."""
        return Range(*(max(value - seconds, 0.0) for value in (self.low, self.expected, self.high)))


def time_left(seconds: Sequence[float], items: Sequence[float], left: float, models: float) -> Range | None:
    """Return how long `left` more items in about `models` models will take, None where that cannot be told.

    A ratio estimate: results took `seconds[i]` for `items[i]` items (0 for a model that failed); what varies about the
    mean cost of an item does so again in every model that is left, and the mean itself is known only so well
    (Cochran, Sampling Techniques, chapter 6). 95 % by Student's t, since at first few results are known.
    """
    count, scored = len(seconds), math.fsum(items)
    if count < FEWEST or scored <= 0:
        return None
    rate = math.fsum(seconds) / scored
    residuals = (s - rate * i for s, i in zip(seconds, items, strict=True))
    variance = math.fsum(residual * residual for residual in residuals) / (count - 1)
    spread = _student(count - 1) * math.sqrt(variance * (models + count * (left / scored) ** 2))
    expected = rate * left
    return Range(max(expected - spread, 0.0), expected, expected + spread)


@lru_cache
def _student(freedom: int) -> float:
    return float(stats.t.ppf(0.975, freedom))


def clock_text(seconds: float) -> str:
    """Write seconds as `4:05`, or `2:04:05` from an hour on.

    >>> clock_text(245.2), clock_text(7445)
    ('4:05', '2:04:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def range_text(left: Range) -> str:
    """Write a range as `4:05 left (3:20 to 5:30)`."""
    return f"{clock_text(left.expected)} left ({clock_text(left.low)} to {clock_text(left.high)})"
