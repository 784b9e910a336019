"""Profiles: how one parameter runs over a model while it is searched.

A profile stands for one parameter of one expert, or for one option. It gives the groups of a recipe for the values of
its dimensions, and finds these values again in any recipe, whatever groups that is written with: a fixed value, a value
for each of some groups, or a shape whose few numbers are searched. This file knows nothing about methods or recipes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import numpy.typing as npt

from evomerge.recipes.dimension import Dimension
from evomerge.recipes.groups import ALL, Layout, value_at
from evomerge.recipes.recipe import Value

#: The value of a parameter at a tensor.
At = Callable[[str], Value]

#: The numbers of a shape -> group -> value.
Curve = Callable[[Sequence[float]], Mapping[str, float]]

#: Of the largest value, if that is above 1: a recipe this near to a shape, or to a bound, lies on it.
_NEAR = 1e-9


class Profile(Protocol):
    """What the search space needs of a parameter."""

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """What is searched; none if all is fixed."""

    def groups(self, values: Sequence[Value]) -> Mapping[str, Value]:
        """Return group -> value for the values of the dimensions."""

    def units(self, at: At) -> list[float] | None:
        """Return the unit coordinates of the dimensions where the parameter has these values, None if nowhere.

        Raises `UsageError` where `at` does.
        """

    def reach(self) -> list[dict[str, float]]:
        """Return, for each dimension, group -> how far the value there moves between the dimension's bounds."""


@dataclass(frozen=True)
class Fixed:
    """A value that is not searched: the same in every candidate."""

    values: Mapping[str, Value]
    layout: Layout
    #: of the tensors that no group holds, where that is allowed
    elsewhere: Value | None = None

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """None."""
        return ()

    def groups(self, values: Sequence[Value]) -> Mapping[str, Value]:
        """See `Profile`."""
        return self.values

    def units(self, at: At) -> list[float] | None:
        """See `Profile`."""
        groups = self.values if self.elsewhere is None else {ALL: self.elsewhere, **self.values}
        return [] if all(at(tensor) == value_at(groups, tensor) for tensor in self.layout.tensors) else None

    def reach(self) -> list[dict[str, float]]:
        """See `Profile`."""
        return []


@dataclass(frozen=True)
class ByGroup:
    """A value for each group, each a dimension of its own; a dimension without a group is for all tensors."""

    dimensions: tuple[Dimension, ...]
    layout: Layout

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        return members(self.layout, [d.group or ALL for d in self.dimensions])

    def groups(self, values: Sequence[Value]) -> Mapping[str, Value]:
        """See `Profile`."""
        return {d.group or ALL: value for d, value in zip(self.dimensions, values, strict=True)}

    def units(self, at: At) -> list[float] | None:
        """See `Profile`."""
        found = [_unit(d, _common(at, self._members[d.group or ALL])) for d in self.dimensions]
        return None if None in found else [unit for unit in found if unit is not None]

    def reach(self) -> list[dict[str, float]]:
        """See `Profile`; the bounds of choices are 0 and 1."""
        return [{d.group or ALL: d.high - d.low} for d in self.dimensions]


@dataclass(frozen=True)
class ByShape:
    """A shape, some of whose numbers are dimensions.

    Attributes:
        numbers: of the shape, in order: a dimension, or a fixed number.
        curve: the numbers -> group -> value, linear in the numbers; different numbers give different values.
        layout: of the models.
    """

    numbers: tuple[Dimension | float, ...]
    curve: Curve
    layout: Layout

    @cached_property
    def _members(self) -> dict[str, list[str]]:
        held = members(self.layout, self.groups([0.0] * len(self.dimensions)))
        return {group: tensors for group, tensors in held.items() if tensors}

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """See `Profile`."""
        return tuple(number for number in self.numbers if isinstance(number, Dimension))

    def groups(self, values: Sequence[Value]) -> Mapping[str, Value]:
        """See `Profile`."""
        left = [float(value) for value in values]
        return self.curve([left.pop(0) if isinstance(number, Dimension) else number for number in self.numbers])

    def units(self, at: At) -> list[float] | None:
        """See `Profile`: the shape's numbers are those that come nearest, if that is near enough."""
        zero = [0.0] * len(self.dimensions)
        groups = self._members
        common = [_common(at, held) for held in groups.values()]
        if not all(isinstance(value, float) for value in common):
            return None
        wanted = np.array([float(value) for value in common if value is not None])
        offset = self._column(zero, groups)
        unit_vectors = np.eye(len(zero)).tolist()
        columns = np.array([self._column(v, groups) - offset for v in unit_vectors]).reshape(-1, len(groups)).T
        found = np.linalg.lstsq(columns, wanted - offset, rcond=None)[0]
        scale = max(1.0, float(np.abs(wanted).max()))
        if np.abs(columns @ found + offset - wanted).max() > _NEAR * scale:
            return None
        units = [_unit(d, float(number), scale) for d, number in zip(self.dimensions, found, strict=True)]
        return None if None in units else [unit for unit in units if unit is not None]

    def reach(self) -> list[dict[str, float]]:
        """See `Profile`."""
        zero, size = self.groups([0.0] * len(self.dimensions)), len(self.dimensions)
        moved = [self.groups([float(i == j) for j in range(size)]) for i in range(size)]
        return [
            {group: abs(float(there[group]) - float(zero[group])) * (dimension.high - dimension.low) for group in there}
            for dimension, there in zip(self.dimensions, moved, strict=True)
        ]

    def _column(self, values: Sequence[float], groups: Iterable[str]) -> npt.NDArray[np.float64]:
        curve = self.groups(values)
        return np.array([float(curve[group]) for group in groups])


def members(layout: Layout, groups: Iterable[str]) -> dict[str, list[str]]:
    """Return group -> the tensors it governs among these groups: those of `all` are what the others leave."""
    groups = list(groups)
    result = {group: layout.members(group) for group in groups}
    if ALL in result:
        taken = {tensor for group in groups if group != ALL for tensor in result[group]}
        result[ALL] = [tensor for tensor in layout.tensors if tensor not in taken]
    return result


def _common(at: At, tensors: Iterable[str]) -> Value | None:
    """The one value on all of `tensors`, or None if it has several."""
    values = {at(tensor) for tensor in tensors}
    return values.pop() if len(values) == 1 else None


def _unit(dimension: Dimension, value: Value | None, scale: float = 1.0) -> float | None:
    """The unit coordinate of a value; one that is out of bounds by rounding alone lies on them."""
    if value is None or dimension.choices or not isinstance(value, float):
        return None if value is None else dimension.unit(value)
    inside = min(max(value, dimension.low), dimension.high)
    return dimension.unit(inside if abs(inside - value) <= _NEAR * scale else value)
