"""Recipes over the test families, for engine and export alike."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.checkpoints import ModelPool
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


def pool_of(family: Mapping[str, Path]) -> ModelPool:
    return ModelPool.open(str(family["base"]), _experts(family))


def recipe_of(family: Mapping[str, Path], method: str = "dare_linear", **changes: Any) -> Recipe:
    parameters = {"weight": WEIGHTS} | ({"drop_rate": RATES} if method in ("dare_linear", "dare_ties", "ties") else {})
    values = {"parameters": parameters, "seed": 3, **changes}
    return Recipe(method, str(family["base"]), _experts(family), **values)


def _experts(family: Mapping[str, Path]) -> dict[str, str]:
    return {name: str(path) for name, path in family.items() if name != "base"}
