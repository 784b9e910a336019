"""The search space: named, bounded parameters, and the map between a vector in the unit cube and a recipe.

    methods: [dare_linear]
    granularity: 2            # global | layer | k layers a block
    split: false              # attention / mlp / rest apart
    own: [embeddings, norms, head]
    parameters:
      weight: {low: 0.0, high: 1.5}
      drop_rate: {low: 0.0, high: 0.9, granularity: global}
    options:
      lambda: 1.0             # a plain number is fixed; {low, high} is searched, one value for the whole model

A parameter that a chosen method does not know is left out of the recipe. This file knows nothing about optimizers or
scores, and about methods only the names of their parameters.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.recipes.groups import ALL, OUTSIDE, Layout, parse_group
from evomerge.recipes.recipe import Recipe, Value

_KEYS = ("methods", "granularity", "split", "own", "parameters", "options")
_RANGE_KEYS = ("low", "high", "granularity", "split", "own")

# A recipe that lacks one of these parameters does the same as one that sets it to this value.
NEUTRAL: Mapping[str, float] = {"drop_rate": 0.0}
# A method that, with its extra parameters neutral, builds the same bits as another.
SPECIAL_CASE_OF: Mapping[str, str] = {"task_arithmetic": "dare_linear"}


@dataclass(frozen=True)
class Dimension:
    """One coordinate of the search: what an optimizer sees of a merge parameter.

    Attributes:
        name: unique, readable: `weight.math.layers.0-1`.
        parameter: `weight`, `drop_rate`, an option's name, or `method`.
        expert: label of the expert, or None for options and the method.
        group: the group of tensors, or None for options and the method.
        low, high: bounds of the value; 0 and 1 for a choice.
        choices: the values of a categorical dimension, else empty. The unit interval is cut into equal parts.
    """

    name: str
    parameter: str
    expert: str | None = None
    group: str | None = None
    low: float = 0.0
    high: float = 1.0
    choices: tuple[str, ...] = ()

    @property
    def layer(self) -> float | None:
        """The middle layer of the group, or None where it has no place among the layers."""
        parsed = parse_group(self.group) if self.group else None
        if parsed is None or parsed.first is None or parsed.last is None:
            return None
        return (parsed.first + parsed.last) / 2

    def value(self, u: float) -> Value:
        """Map a unit coordinate to a value; coordinates outside [0, 1] are a `ValueError`."""
        if not 0.0 <= u <= 1.0:
            raise ValueError(f"{self.name}: coordinate {u} is outside [0, 1]")
        if self.choices:
            return self.choices[min(int(u * len(self.choices)), len(self.choices) - 1)]
        # min/max: rounding must not leave the bounds
        return min(max(self.low + u * (self.high - self.low), self.low), self.high)

    def unit(self, value: Value) -> float | None:
        """Map a value to its unit coordinate (the middle of its part for a choice); None if it is out of bounds."""
        if self.choices:
            return (self.choices.index(str(value)) + 0.5) / len(self.choices) if value in self.choices else None
        if not isinstance(value, float) or not self.low <= value <= self.high:
            return None
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)


class SearchSpace:
    """The recipes that a search may propose, as a box of dimensions.

    Args:
        base: reference of the base model, as it goes into every recipe.
        experts: label -> reference.
        layout: the tensors of the models.
        config: plain data with the keys shown at the head of this file; unknown keys are a `UsageError`.
        method_parameters: method -> names of the per-expert parameters and options it knows.
        seed: mask seed of every recipe of the search.
        dtype: dtype of every recipe.
    """

    def __init__(
        self,
        *,
        base: str,
        experts: Mapping[str, str],
        layout: Layout,
        config: Mapping[str, Any],
        method_parameters: Mapping[str, Iterable[str]],
        seed: int = 0,
        dtype: str = "bfloat16",
    ) -> None:
        refuse_unknown(config, _KEYS, "space")
        self.base, self.experts, self.layout = base, dict(sorted(experts.items())), layout
        self.seed, self.dtype = seed, dtype
        self.methods = tuple(config.get("methods", ["dare_linear"]))
        if not self.methods:
            raise UsageError("space: methods is empty; name at least one")
        refuse_unknown(self.methods, method_parameters, "space.methods")
        self._knows = {method: frozenset(method_parameters[method]) for method in self.methods}
        known = frozenset().union(*self._knows.values())
        parameters, options = config.get("parameters") or {}, config.get("options") or {}
        refuse_unknown([*parameters, *options], known, "space: " + "/".join(self.methods))
        self._fixed_parameters: dict[str, Value] = {}
        self._fixed_options: dict[str, Value] = {}
        dimensions: list[Dimension] = []
        if len(self.methods) > 1:
            dimensions.append(Dimension("method", "method", choices=self.methods))
        for name, bounds in parameters.items():
            if not isinstance(bounds, Mapping):
                self._fixed_parameters[name] = _number(bounds, f"space.parameters.{name}")
                continue
            low, high = _bounds(bounds, f"space.parameters.{name}")
            groups = layout.divide(
                bounds.get("granularity", config.get("granularity", "global")),
                split=bool(bounds.get("split", config.get("split", False))),
                own=tuple(bounds.get("own", config.get("own", OUTSIDE))),
            )
            dimensions += [
                Dimension(f"{name}.{expert}.{group}", name, expert, group, low, high)
                for expert in self.experts
                for group in groups
            ]
        for name, bounds in options.items():
            if isinstance(bounds, Mapping):
                low, high = _bounds(bounds, f"space.options.{name}")
                dimensions.append(Dimension(name, name, low=low, high=high))
            else:
                self._fixed_options[name] = bounds if isinstance(bounds, bool | str) else _number(bounds, name)
        if not dimensions:
            raise UsageError("space: nothing to search; give at least one parameter a {low, high}")
        self.dimensions: tuple[Dimension, ...] = tuple(dimensions)

    def __len__(self) -> int:
        """The number of dimensions."""
        return len(self.dimensions)

    def recipe(self, vector: Sequence[float]) -> Recipe:
        """Return the recipe at a point of the unit cube (len(self) coordinates)."""
        if len(vector) != len(self):
            raise ValueError(f"expected {len(self)} coordinates, got {len(vector)}")
        method = self.methods[0]
        parameters: dict[str, dict[str, dict[str, Value]]] = {
            name: {expert: {ALL: value} for expert in self.experts} for name, value in self._fixed_parameters.items()
        }
        options: dict[str, dict[str, Value]] = {name: {ALL: value} for name, value in self._fixed_options.items()}
        for dimension, u in zip(self.dimensions, vector, strict=True):
            value = dimension.value(u)
            if dimension.parameter == "method":
                method = str(value)
            elif dimension.expert is None:
                options[dimension.parameter] = {ALL: value}
            else:
                assert dimension.group is not None
                by_expert = parameters.setdefault(dimension.parameter, {expert: {} for expert in self.experts})
                by_expert[dimension.expert][dimension.group] = value
        knows = self._knows[method]
        return Recipe(
            method=method,
            base=self.base,
            experts=self.experts,
            parameters={name: value for name, value in parameters.items() if name in knows},
            options={name: value for name, value in options.items() if name in knows},
            dtype=self.dtype,
            seed=self.seed,
        )

    def uniform(self, method: str, weights: Mapping[str, float]) -> Recipe:
        """Return the recipe that gives each expert one weight everywhere (label -> weight)."""
        return Recipe(
            method=method,
            base=self.base,
            experts=self.experts,
            parameters={"weight": {expert: {ALL: weights[expert]} for expert in self.experts}},
            dtype=self.dtype,
            seed=self.seed,
        )

    def vector(self, recipe: Recipe) -> tuple[float, ...] | None:
        """Return the point of the unit cube where `recipe` lies, or None if it lies outside this space.

        The inverse of `recipe`, up to rounding; also finds recipes written with other groups or with a special case of
        the method (task arithmetic is DARE with nothing dropped), so that baselines can be told to an optimizer.
        """
        method = recipe.method if recipe.method in self.methods else SPECIAL_CASE_OF.get(recipe.method, "")
        same = (self.base, self.experts, self.seed, self.dtype)
        if method not in self.methods or (recipe.base, recipe.experts, recipe.seed, recipe.dtype) != same:
            return None
        try:
            for name, value in self._fixed_parameters.items():
                if name in self._knows[method]:
                    for expert in self.experts:
                        if self._value_over(recipe, name, expert, self.layout.tensors) != value:
                            return None
            if any(recipe.options.get(n, {ALL: v}) != {ALL: v} for n, v in self._fixed_options.items()):
                return None
            units: list[float] = []
            for dimension in self.dimensions:
                unit = self._unit(recipe, dimension, method)
                if unit is None:
                    return None
                units.append(unit)
        except KeyError:
            return None
        return tuple(units)

    def _unit(self, recipe: Recipe, dimension: Dimension, method: str) -> float | None:
        if dimension.parameter == "method":
            return dimension.unit(method)
        if dimension.expert is None:
            return dimension.unit(recipe.options[dimension.parameter][ALL])
        tensors = self._tensors_of[dimension.name]
        value = self._value_over(recipe, dimension.parameter, dimension.expert, tensors)
        if value is None:
            return None
        unit = dimension.unit(value)
        return 0.5 if unit is None and dimension.parameter not in self._knows[method] else unit

    def _value_over(self, recipe: Recipe, name: str, expert: str, tensors: Iterable[str]) -> Value | None:
        """The one value that a parameter has on all of `tensors`, or None if it has several."""
        if name not in recipe.parameters:
            return NEUTRAL[name]
        values = {recipe.parameter(name, expert, tensor) for tensor in tensors}
        return values.pop() if len(values) == 1 else None

    @cached_property
    def _tensors_of(self) -> dict[str, list[str]]:
        """Dimension name -> the tensors it governs (those of `all` are what the other groups leave)."""
        result: dict[str, list[str]] = {}
        for dimension in self.dimensions:
            if dimension.group is None:
                continue
            siblings = {
                d.group
                for d in self.dimensions
                if (d.parameter, d.expert) == (dimension.parameter, dimension.expert) and d.group not in (None, ALL)
            }
            members = self.layout.members(dimension.group)
            if dimension.group == ALL:
                taken = {t for sibling in siblings for t in self.layout.members(str(sibling))}
                members = [t for t in members if t not in taken]
            result[dimension.name] = members
        return result


def _bounds(data: Mapping[str, Any], where: str) -> tuple[float, float]:
    refuse_unknown(data, _RANGE_KEYS, where)
    if "low" not in data or "high" not in data:
        raise UsageError(f"{where}: needs both low and high")
    low, high = _number(data["low"], f"{where}.low"), _number(data["high"], f"{where}.high")
    if not low < high:
        raise UsageError(f"{where}: low {low} must be below high {high}")
    return low, high


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UsageError(f"{where}: {value!r} is not a finite number")
    return float(value)
