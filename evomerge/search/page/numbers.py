"""Numbers as a page holds them: few digits, and none that JSON does not have. This file knows nothing else."""

import math
from collections.abc import Iterable


def short(value: float | None) -> float | None:
    """Return a number with six significant digits, None for one that is unknown or not finite."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None


def shorts(values: Iterable[float | None]) -> list[float | None]:
    """Return `short` of each."""
    return [short(value) for value in values]
