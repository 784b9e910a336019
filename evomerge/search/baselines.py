"""The models that every search scores first: base, experts, uniform merges, other methods as they are published, random
points of the space.

They stand in every table, and those that lie in the search space are told to the optimizer as its starting points.
This file knows nothing about scores.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from evomerge.errors import refuse_unknown
from evomerge.recipes import Recipe, SearchSpace
from evomerge.recipes.groups import ALL
from evomerge.recipes.shapes import lines
from evomerge.search.config import Baselines

Kind = Literal["base", "expert", "uniform", "untuned", "random"]

#: What a person reads for a kind of which a table shows the best one.
RIVALS: Mapping[str, str] = {"uniform": "best uniform", "untuned": "best untuned", "random": "best random"}

# Tells the generator of random points from others of the same seed.
_RANDOM = 0x7A11D0


@dataclass(frozen=True)
class Baseline:
    """A recipe with a name.

    `vector` is where it lies in the search space, None if outside. `place` is the recipe by which it is found in any
    space: the same model up to rounding, written as that space would write it.
    """

    name: str
    kind: Kind
    recipe: Recipe
    vector: tuple[float, ...] | None
    place: Recipe


def baselines(space: SearchSpace, settings: Baselines, *, seed: int = 0) -> list[Baseline]:
    """Return base, experts, uniform average and grid of uniform weights, untuned methods, random points, in this order.

    Args:
        space: the search space.
        settings: which; `random` is a number here.
        seed: of the random points.

    Raises `UsageError` for an untuned method that is not known.
    """
    labels = list(space.experts)
    average = 1.0 / len(labels)

    def arithmetic(weights: dict[str, float]) -> Recipe:
        return space.uniform("task_arithmetic", weights)

    def mean_of(weights: dict[str, float]) -> Recipe:
        return space.uniform("linear", weights).with_(options={"normalize": {ALL: True}})

    base = arithmetic(dict.fromkeys(labels, 0.0))
    found = [Baseline("base", "base", base, space.vector(base), base)]
    for label in labels:
        # The expert itself, bit for bit, is the weighted mean with all weight on it; its place in the search space is
        # that of the task arithmetic that gives the same model up to rounding.
        weights = {other: float(other == label) for other in labels}
        place = arithmetic(weights)
        found.append(Baseline(label, "expert", mean_of(weights), space.vector(place), place))
    equal = dict.fromkeys(labels, average)
    place = arithmetic(equal)
    found.append(Baseline("average", "uniform", mean_of(equal), space.vector(place), place))
    for weight in settings.grid:
        recipe = arithmetic(dict.fromkeys(labels, float(weight)))
        found.append(Baseline(f"arithmetic {weight:g}", "uniform", recipe, space.vector(recipe), recipe))
    refuse_unknown(settings.untuned, UNTUNED, "baselines.untuned")
    for name in settings.untuned:
        made = UNTUNED[name](space)
        if made is not None:
            found.append(Baseline(name, "untuned", made, space.vector(made), made))
    rng = np.random.default_rng([_RANDOM, seed])
    for number in range(int(settings.random)):
        vector = tuple(rng.random(len(space)).tolist())
        recipe = space.recipe(vector)
        found.append(Baseline(f"random {number}", "random", recipe, vector, recipe))
    return found


def _lines(space: SearchSpace) -> Recipe | None:
    """LiNeS (Wang et al., 2410.17146): weights that grow with the layer from 1 / experts, by the paper's beta of 0.5.

    None for models of fewer than two layers, where there is nothing to grow over.
    """
    if space.layout.layers < 2:
        return None
    weight = lines(space.layout.layers, alpha=1.0 / len(space.experts), beta=0.5)
    recipe = space.uniform("task_arithmetic", dict.fromkeys(space.experts, 1.0))
    return recipe.with_(parameters={"weight": dict.fromkeys(space.experts, weight)})


def _ties(space: SearchSpace) -> Recipe:
    """TIES (Yadav et al., 2306.01708, §4): the largest 20 % of each task vector, what agrees averaged, lambda 1."""
    return _sparse(space, "ties", 0.8)


def _dare_ties(space: SearchSpace) -> Recipe:
    """DARE, then TIES' election (Yu et al., 2311.03099, §3.3): half is dropped, what agrees averaged, lambda 1.

    The paper names no one drop rate: half is that of its authors' later released merge, and near mergekit's example.
    """
    return _sparse(space, "dare_ties", 0.5)


def _sparse(space: SearchSpace, method: str, drop_rate: float) -> Recipe:
    recipe = space.uniform(method, dict.fromkeys(space.experts, 1.0))
    drop = {expert: {ALL: drop_rate} for expert in space.experts}
    return recipe.with_(
        parameters={**recipe.parameters, "drop_rate": drop}, options={"normalize": {ALL: True}, "lambda": {ALL: 1.0}}
    )


#: Untuned methods: name -> their recipe, None where the models have none.
UNTUNED: Mapping[str, Callable[[SearchSpace], Recipe | None]] = {
    "lines": _lines,
    "ties": _ties,
    "dare_ties": _dare_ties,
}
