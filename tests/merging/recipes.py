"""Recipes over the test families, for engine and export alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.merging import METHODS
from evomerge.recipes import Recipe

WEIGHTS = {
    "code": {"layers.0": 0.3, "all": 0.7},
    "math": {"layers.1.mlp": 0.9, "all": 0.4},
    "prose": {"embeddings": 0.0, "all": 0.5},
}
RATES = {
    "code": {"all": 0.5},
    "math": {"layers": 0.3, "norms": 0.0, "all": 0.1},
    "prose": {"layers.0": 1.0, "all": 0.9},
}
METRICS = {"code": {"all": 1.0}, "math": {"layers.0": 3.0, "all": 2.0}, "prose": {"all": 1.5}}
OPTIONS = {"t": {"layers.0": 0.3, "all": 0.6}, "scale": {"all": 0.9}}


def pool_of(family: Mapping[str, Path]) -> ModelPool:
    return ModelPool.open(str(family["base"]), _experts(family))


def recipe_of(family: Mapping[str, Path], method: str = "dare_linear", **changes: Any) -> Recipe:
    """A recipe with other values in other groups, for as many of the experts as the method merges."""
    declared = METHODS[method] if method in METHODS else METHODS["linear"]
    experts = dict(list(_experts(family).items())[: int(min(declared.experts[1], 3))])
    given = {"weight": WEIGHTS, "drop_rate": RATES, "metric": METRICS}
    parameters = {
        p.name: {label: given[p.name][label] for label in experts} for p in declared.parameters if p.name in given
    }
    options = {o.name: OPTIONS[o.name] for o in declared.options if o.name in OPTIONS}
    values = {"parameters": parameters, "options": options, "seed": 3, **changes}
    return Recipe(method, str(family["base"]), experts, **values)


def _experts(family: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in family.items() if name != "base"}
