"""How much a search will do: how many models are built, and on how many items each is scored.

Counted from the configuration alone, by the rules of the loop (`search/loop.py`, `search/finalists.py`). This file
knows nothing about seconds or bytes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from evomerge.evaluation.types import Split
from evomerge.search.config import SearchConfig, random_baselines

Phase = Literal["baselines", "candidates", "selection", "report"]


@dataclass(frozen=True)
class Range:
    """A number that is not known exactly."""

    low: float
    likely: float
    high: float

    def __add__(self, other: "Range") -> "Range":
        """Return the sum, both low or both high together."""
        return Range(self.low + other.low, self.likely + other.likely, self.high + other.high)


@dataclass(frozen=True)
class Step:
    """One part of a search: so many models are built, each scored on `items` of every task; None: not known here."""

    phase: Phase
    split: Split
    models: Range
    items: Mapping[str, int | None]


def steps(
    config: SearchConfig, items: Mapping[Split, Mapping[str, int | None]], *, baselines: int, candidates: int
) -> list[Step]:
    """Return the parts of a search, in order.

    Args:
        config: the configuration.
        items: split -> task -> how many items.
        baselines: how many models are scored before the search begins.
        candidates: how many the search proposes.

    The number of finalists depends on how many members of the front are finalists anyway: between none and all; half
    of them are likely.
    """
    experts, selection = len(config.models.experts), config.selection
    uniform = min(selection.finalists, 1 + len(config.baselines.grid))
    random = min(selection.finalists, random_baselines(config))
    fixed = 1 + experts + len(config.baselines.untuned) + uniform + random
    chosen = min(selection.finalists, candidates)
    left = candidates - chosen + 1 + len(config.baselines.grid) - uniform + random_baselines(config) - random
    front = min(selection.front, left) if len(config.tasks) > 1 else 0
    kinds = 1 + bool(config.baselines.untuned) + bool(random)
    finalists = Range(fixed + chosen, fixed + chosen + front / 2, fixed + chosen + front)
    reported = 1 + experts + kinds + min(selection.chosen, chosen)
    return [
        Step("baselines", "search", _exactly(baselines), items["search"]),
        Step("candidates", "search", _exactly(candidates), items["search"]),
        Step("selection", "selection", finalists, items["selection"]),
        Step("report", "report", _exactly(reported), items["report"]),
    ]


def allowed_candidates(
    config: SearchConfig, items: Mapping[str, int | None], *, baselines: int, seconds_each: float | None
) -> int | None:
    """Return how many candidates the budget allows, whichever limit comes first; None where that is not known here.

    Args:
        config: the configuration.
        items: task -> how many items a candidate is scored on.
        baselines: how many models are scored before; their items and seconds count.
        seconds_each: how long the scoring of a model takes; None: not known.
    """
    budget, each = config.budget, [count for count in items.values() if count is not None]
    limits = [] if budget.candidates is None else [budget.candidates]
    if budget.items is not None and len(each) == len(items):
        limits.append(max(0, math.ceil(budget.items / sum(each)) - baselines))
    if budget.seconds is not None and seconds_each:
        limits.append(max(0, math.ceil(budget.seconds / seconds_each) - baselines))
    return min(limits, default=None)


def blocks(items: int, *, first: int, eta: float) -> list[int]:
    """Return the sizes of the blocks in which a race scores items of one task, if it goes to the end."""
    found: list[int] = []
    seen = 0
    while seen < items:
        more = min(first if not seen else max(math.ceil(seen * eta) - seen, 1), items - seen)
        found.append(more)
        seen += more
    return found


def _exactly(number: float) -> Range:
    return Range(number, number, number)
