"""Numbers that people write in configurations and recipes: what is one, and lies where it must.

Everything that is refused is a `UsageError` of one line that names the place. This file knows nothing about what the
numbers mean.
"""

import sys
from typing import Any

from evomerge.errors import UsageError


def whole(value: Any, where: str, *, least: int = 0) -> int:
    """Return a whole number of at least `least`; `UsageError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UsageError(f"{where}: {value!r} must be a whole number >= {least}")
    return value


def number(
    value: Any,
    where: str,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
) -> float:
    """Return a finite number within limits as a float; `UsageError` for anything else.

    >>> number(0.5, "alpha", above=0, below=1)
    0.5
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise UsageError(f"{where}: {value!r} is not a finite number")
    limits = ((">=", least), (">", above), ("<=", most), ("<", below))
    holds = (
        least is None or value >= least,
        above is None or value > above,
        most is None or value <= most,
        below is None or value < below,
    )
    if not all(holds):
        text = " and ".join(f"{sign} {limit:g}" for sign, limit in limits if limit is not None)
        raise UsageError(f"{where}: {value!r} must be a number {text}")
    return float(value)
