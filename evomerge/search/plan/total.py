"""How long a whole search takes: the measured costs times the work, with the optimizer's own time.

This file knows nothing about how anything was measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.search.plan.cost import NOTHING, Cost
from evomerge.search.plan.measured import Measured
from evomerge.search.plan.work import Range, Step, blocks
from evomerge.search.racing import RacingSettings

#: What is never the same twice: the range of a sum of many measured times is at least so wide.
_LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class Crew:
    """Who scores: so many workers at a time, which share so many processors."""

    workers: int = 1
    processors: float = math.inf

    def seconds(self, models: float, each: Cost) -> float:
        """Return how long so many models take, of which one alone takes `each`."""
        if self.workers == 1:
            return models * each.seconds
        return max(math.ceil(models / self.workers) * each.seconds, models * each.cpu / self.processors)


@dataclass(frozen=True)
class Phase:
    """One part of a search: how long it takes on the clock (a range) and of the processors."""

    name: str
    seconds: Range
    cpu: float


@dataclass(frozen=True)
class Total:
    """A whole search by one optimizer, with or without racing.

    Attributes:
        optimizer: its name.
        racing: whether candidates race.
        phases: its parts, in order; the optimizer's own time is one.
        seconds: of all on the clock.
        cpu: of the processors.
    """

    optimizer: str
    racing: bool
    phases: tuple[Phase, ...]

    @property
    def seconds(self) -> Range:
        """The sum over all phases."""
        total = Range(0.0, 0.0, 0.0)
        for phase in self.phases:
            total += phase.seconds
        return total

    @property
    def cpu(self) -> float:
        """The processor seconds of all phases."""
        return sum(phase.cpu for phase in self.phases)


def total(
    measured: Measured,
    steps: Sequence[Step],
    *,
    start: Cost,
    optimizer: str,
    asking: Cost,
    racing: RacingSettings | None,
    crew: Crew = Crew(),
) -> Total:
    """Sum up a search.

    Args:
        measured: one candidate.
        steps: the work.
        start: of the program, until its models are to be loaded.
        optimizer: its name.
        asking: what all its questions cost.
        racing: how candidates race; None: they do not.
        crew: who scores.
    """
    spread = _spread(measured)
    begin = start + measured.start + measured.warming
    phases = [Phase("start", _around(begin.seconds, spread), begin.cpu)]
    for step in steps:
        items = known(step.items)
        each = measured.merge + measured.score(items)
        low, high = each, each
        if racing is not None and step.phase == "candidates":
            low, high = (measured.merge + scored for scored in raced(measured, items, racing))
            each = (low + high) * 0.5
        seconds = Range(
            crew.seconds(step.models.low, low) * spread.low,
            crew.seconds(step.models.likely, each),
            crew.seconds(step.models.high, high) * spread.high,
        )
        phases.append(Phase(step.phase, seconds, step.models.likely * each.cpu))
    phases.append(Phase("optimizer", _around(asking.seconds, spread), asking.cpu))
    return Total(optimizer, racing is not None, tuple(phases))


def raced(measured: Measured, items: Mapping[str, int], racing: RacingSettings) -> tuple[Cost, Cost]:
    """Return what scoring costs a candidate that is stopped after its first block, and one that is never stopped."""
    first, whole = NOTHING, NOTHING
    for task, count in items.items():
        for place, block in enumerate(blocks(count, first=racing.first, eta=racing.eta)):
            cost = measured.score({task: block})
            whole += cost
            if place == 0:
                first += cost
    return first, whole


def known(items: Mapping[str, int | None]) -> dict[str, int]:
    """Return the numbers of items, which are all known where models are."""
    return {task: count for task, count in items.items() if count is not None}


def _spread(measured: Measured) -> Range:
    """Return how far other candidates' scoring was from that which is taken to be likely."""
    ratios = [1.0, *(other.seconds for other in measured.others)]
    middle = sum(ratios) / len(ratios)
    return Range(min(1.0 - _LEAST_SPREAD, min(ratios) / middle), 1.0, max(1.0 + _LEAST_SPREAD, max(ratios) / middle))


def _around(seconds: float, spread: Range) -> Range:
    return Range(seconds * spread.low, seconds, seconds * spread.high)
