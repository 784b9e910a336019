"""Landscapes by name. This file knows nothing about their shapes."""

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

from evomerge.errors import UsageError, nearest
from evomerge.landscapes.landscape import Landscape
from evomerge.landscapes.recorded import FittedLandscape, GridLandscape
from evomerge.landscapes.synthetic import MergeLandscape

_SIZES = (
    (3, 1, 3, False),  # what MAP was made for: one weight for each of three experts
    (3, 1, 1, True),
    (2, 3, 2, False),
    (3, 4, 1, False),
    (3, 3, 3, True),
    (4, 3, 4, True),
    (2, 16, 1, False),
    (2, 16, 2, True),
    (2, 32, 1, True),
)

#: Name (`merge-DIMENSIONSd-TASKS`) -> experts, groups, tasks, drop rates of a `MergeLandscape`.
SYNTHETIC = {f"merge-{size[0] * size[1] * (1 + size[3])}d-{size[2]}": size for size in _SIZES}
RECORDED: dict[str, Callable[[str, Path], Landscape]] = {
    "zoo-grid": GridLandscape,
    "zoo-weights": partial(FittedLandscape, coarse=True),
    "zoo-layers": partial(FittedLandscape, coarse=False),
}


@lru_cache
def landscape(name: str, recording: Path | None = None) -> Landscape:
    """Return the landscape of that name; the same object when called again.

    Args:
        name: one of `SYNTHETIC` or `RECORDED`.
        recording: the file of a recorded one.

    Raises `UsageError` for an unknown name, and for a recorded landscape without its file.
    """
    if name in SYNTHETIC:
        experts, groups, tasks, drop_rates = SYNTHETIC[name]
        return MergeLandscape(name, experts=experts, groups=groups, tasks=tasks, drop_rates=drop_rates)
    if name not in RECORDED:
        raise UsageError(f"unknown landscape {name!r}; {nearest(name, [*SYNTHETIC, *RECORDED])}")
    if recording is None or not recording.is_file():
        raise UsageError(f"landscape {name}: no recording at {recording}; make one with scripts/record_landscape.py")
    return RECORDED[name](name, recording)
