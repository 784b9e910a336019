"""The models that every search scores first: base, experts, uniform average, a task-arithmetic grid.

They stand in every table, and those that lie in the search space are told to the optimizer as its starting points.
This file knows nothing about scores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from evomerge.recipes import Recipe, SearchSpace
from evomerge.recipes.groups import ALL

Kind = Literal["base", "expert", "uniform"]


@dataclass(frozen=True)
class Baseline:
    """A recipe with a name; `vector` is where it lies in the search space, None if outside."""

    name: str
    kind: Kind
    recipe: Recipe
    vector: tuple[float, ...] | None


def baselines(space: SearchSpace, grid: Sequence[float]) -> list[Baseline]:
    """Return base, experts, uniform average and the grid of uniform task-arithmetic weights, in this order."""
    labels = list(space.experts)
    average = 1.0 / len(labels)

    def arithmetic(weights: dict[str, float]) -> Recipe:
        return space.uniform("task_arithmetic", weights)

    def mean_of(weights: dict[str, float]) -> Recipe:
        return space.uniform("linear", weights).with_(options={"normalize": {ALL: True}})

    base = arithmetic(dict.fromkeys(labels, 0.0))
    found = [Baseline("base", "base", base, space.vector(base))]
    for label in labels:
        # The expert itself, bit for bit, is the weighted mean with all weight on it; its place in the search space is
        # that of the task arithmetic that gives the same model up to rounding.
        weights = {other: float(other == label) for other in labels}
        found.append(Baseline(label, "expert", mean_of(weights), space.vector(arithmetic(weights))))
    equal = dict.fromkeys(labels, average)
    found.append(Baseline("average", "uniform", mean_of(equal), space.vector(arithmetic(equal))))
    for weight in grid:
        recipe = arithmetic(dict.fromkeys(labels, float(weight)))
        found.append(Baseline(f"arithmetic {weight:g}", "uniform", recipe, space.vector(recipe)))
    return found
