"""What was measured of one candidate, and what that says about other numbers of items.

This file knows nothing about how it is measured, nor about budgets.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.search.plan.cost import NOTHING, Cost


@dataclass(frozen=True)
class Point:
    """What it cost to score one model on so many items of a task, and how many tokens it said or was asked about."""

    items: int
    tokens: int
    cost: Cost


@dataclass(frozen=True)
class Memory:
    """The memory of this process, in bytes.

    Attributes:
        steady: main memory with models loaded and one candidate built, before anything is scored.
        building: the most while candidates were built, untuned methods among them.
        scoring: the most while a model was scored.
        device: what was not free of the GPU's memory afterwards; 0 without one.
    """

    steady: int
    building: int
    scoring: int
    device: int


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        start: loading of the model to live in, and of the sandbox.
        warming: what first times cost beyond the usual: the first model, and the first merge of every untuned method.
        merges: what building a candidate cost, every tensor anew: once each.
        scoring: task -> points, from few items to many.
        others: the cost of other candidates' scoring over that of the first, on as many items.
        memory: see `Memory`.
        outcome_bytes: what an item leaves in the outcome store.
        weights: where the weights of base and experts are kept, and why.
    """

    start: Cost
    warming: Cost
    merges: tuple[Cost, ...]
    scoring: Mapping[str, tuple[Point, ...]]
    others: tuple[Cost, ...]
    memory: Memory
    outcome_bytes: float
    weights: str

    @property
    def merge(self) -> Cost:
        """What building a candidate costs, on the average."""
        return mean(self.merges)

    def score(self, items: Mapping[str, int]) -> Cost:
        """Return what it costs to score one candidate on so many items of each task."""
        total = NOTHING
        for task, count in items.items():
            line = rates(self.scoring[task])
            total += line.fixed + line.item * count
        factor = mean((Cost(1.0, 1.0), *self.others))
        return Cost(total.seconds * factor.seconds, total.cpu * factor.cpu)


def mean(costs: Sequence[Cost]) -> Cost:
    """Return the mean of some costs."""
    return Cost(sum(cost.seconds for cost in costs), sum(cost.cpu for cost in costs)) * (1 / len(costs))


@dataclass(frozen=True)
class Rates:
    """What scoring costs: so much whatever the items, so much an item more; and how many tokens an item has."""

    fixed: Cost
    item: Cost
    tokens: float

    @property
    def token(self) -> Cost:
        """What a token more costs."""
        return self.item * (1 / max(self.tokens, 1.0))


def rates(points: Sequence[Point]) -> Rates:
    """Return the line through the two largest measurements.

    An item more costs no more than those before did on the average, and at least a tenth of it: where noise says
    otherwise, and with a single measurement, the cost is proportional to the items.
    """
    last = points[-1]
    average = last.cost * (1 / last.items)
    slope = average
    if len(points) > 1:
        more = last.items - points[-2].items
        rise = Cost(last.cost.seconds - points[-2].cost.seconds, last.cost.cpu - points[-2].cost.cpu) * (1 / more)
        slope = Cost(_sane(rise.seconds, average.seconds), _sane(rise.cpu, average.cpu))
    return Rates(last.cost + slope * -last.items, slope, last.tokens / last.items)


def _sane(slope: float, average: float) -> float:
    return slope if 0.1 * average <= slope <= average else average
