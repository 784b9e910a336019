"""Other spaces that would do instead of a given one: coarser, on lines, with wider bounds; and how to write them.

This file knows nothing about budgets or optimizers.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from evomerge.recipes import SearchSpace
from evomerge.recipes.groups import OUTSIDE
from evomerge.recipes.shapes import SHAPE
from evomerge.recipes.space import DIVIDING

#: Path of a key in a space's configuration -> its new value.
Changes = dict[tuple[str, ...], Any]
Fits = Callable[[SearchSpace], bool]

_BLOCKS = (2, 3, 4, 6, 8, 12, 16, 24)
_POINTS = 32


def changed(space: SearchSpace, changes: Changes) -> SearchSpace:
    """Return a space with another configuration."""
    return space.with_config(_with(space.config, changes))


def written(changes: Changes) -> str:
    """Return changes as they are written: `granularity: 4, own: []`."""
    return ", ".join(f"{'.'.join(path)}: {word(value)}" for path, value in changes.items())


def word(value: Any) -> str:
    """Return a value as it is written in YAML."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def nested(coarse: SearchSpace, fine: SearchSpace) -> bool:
    """Whether at least half of the points of one space lie in another."""
    points = np.random.default_rng(0).random((_POINTS, len(coarse)))
    found = sum(fine.vector(coarse.recipe(point)) is not None for point in points.tolist())
    return 2 * found >= _POINTS


def coarser(space: SearchSpace, fits: Fits) -> tuple[Changes, SearchSpace] | None:
    """Return the finest coarser division that fits: larger blocks, then no parts, then no groups outside the layers.

    It comes with all that changes.
    """
    layers = space.layout.layers
    blocks = [1, *(size for size in _BLOCKS if size < layers), layers]
    for alone in (False, True):
        for split in (True, False) if space.config.get("split") else (False,):
            for block in blocks:
                changes = _divided(space.config, block, layers, split=split, alone=alone)
                made = changed(space, changes)
                if len(made) < len(space) and fits(made):
                    for path in [*changes]:
                        less = {key: value for key, value in changes.items() if key != path}
                        changes = less if changed(space, less).dimensions == made.dimensions else changes
                    return changes, made
    return None


def _divided(config: Mapping[str, Any], block: int, layers: int, *, split: bool, alone: bool) -> Changes:
    """Return what changes where no block may have fewer layers than that, parts only if `split`, no kinds `alone`."""
    granularities: Changes = {("granularity",): config.get("granularity", "global")}
    for section in ("parameters", "options"):
        for name, entry in (config.get(section) or {}).items():
            if isinstance(entry, Mapping) and "granularity" in entry:
                granularities[section, name, "granularity"] = entry["granularity"]
    coarse = "global" if block >= layers else block
    changes: Changes = {path: coarse for path, value in granularities.items() if _size(value, layers) < block}
    if config.get("split") and not split:
        changes["split",] = False
    if alone and tuple(config.get("own", OUTSIDE)):
        changes["own",] = []
    return changes


def _size(granularity: Any, layers: int) -> int:
    """The number of layers in a block."""
    named = {"layer": 1, "global": layers}
    return named[granularity] if isinstance(granularity, str) else int(granularity)


def _with(config: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    made = dict(config)
    for (key, *rest), value in changes.items():
        made[key] = _with(made.get(key) or {}, {tuple(rest): value}) if rest else value
    return made


def on_lines(space: SearchSpace) -> SearchSpace | None:
    """Return the space of `space=lines`: weights on lines over the layers, all else one value for the whole model.

    None where the weights have no bounds to take over, or no layers.
    """
    parameters = dict(space.config.get("parameters") or {})
    weight = parameters.get("weight")
    if not isinstance(weight, Mapping) or "low" not in weight or SHAPE in weight or space.layout.layers < 2:
        return None
    for name, entry in parameters.items():
        if isinstance(entry, Mapping):
            parameters[name] = {key: value for key, value in entry.items() if key not in DIVIDING}
    parameters["weight"] = {SHAPE: "lines", "low": weight["low"], "high": weight["high"]}
    coarse = {"granularity": "global", "split": False, "own": [], "parameters": parameters}
    return space.with_config({**space.config, **coarse})


def wider(space: SearchSpace) -> Changes:
    """Return the bounds of the weights that change if 0 and 1 are to lie inside (0 alone for the slope of lines)."""
    weight = space.config["parameters"]["weight"]
    if not isinstance(weight, Mapping):
        return {}
    changes: Changes = {}
    for path, bounds, most in (
        ((), weight, 1.0),
        *(((k,), weight.get(k), m) for k, m in (("alpha", 1.0), ("beta", 0.0))),
    ):
        if isinstance(bounds, Mapping) and "low" in bounds:
            for key, new in (("low", min(float(bounds["low"]), 0.0)), ("high", max(float(bounds["high"]), most))):
                if new != bounds[key]:
                    changes["parameters", "weight", *path, key] = new
    return changes


def undropped(space: SearchSpace) -> Changes:
    """Return the lower bound of the drop rates if it changes where 0 is to lie inside."""
    entry = space.config["parameters"].get("drop_rate")
    dropped = isinstance(entry, Mapping) and entry.get("low", 0.0) > 0.0
    return {("parameters", "drop_rate", "low"): 0.0} if dropped else {}
