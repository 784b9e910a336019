"""A dimension: one coordinate of a search, as an optimizer sees it. This file knows nothing about whole recipes."""

from dataclasses import dataclass

from evomerge.recipes.groups import parse_group
from evomerge.recipes.recipe import Value


@dataclass(frozen=True)
class Dimension:
    """One coordinate of the search: what an optimizer sees of a merge parameter.

    Attributes:
        name: unique, readable: `weight.math.layers.0-1`.
        parameter: `weight`, `drop_rate`, an option's name, or `method`.
        expert: label of the expert, or None for options and the method.
        group: the group of tensors, or None for one value of all tensors, a number of a shape, and the method.
        low, high: bounds of the value; 0 and 1 for a choice.
        choices: the values of a categorical dimension, else empty. The unit interval is cut into equal parts.
        methods: the merge methods that know the parameter, where the method is searched too and not all do; else empty.
        importance: how far the coordinate may be expected to matter, 1 on average over the groups: the relative size
            of the task vector there (see `importance.py`). 0: it changes nothing; 1 where it is not known.
    """

    name: str
    parameter: str
    expert: str | None = None
    group: str | None = None
    low: float = 0.0
    high: float = 1.0
    choices: tuple[Value, ...] = ()
    methods: tuple[str, ...] = ()
    importance: float = 1.0

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
            # type(): 1.0 is no true
            same = [type(choice) is type(value) and choice == value for choice in self.choices]
            return (same.index(True) + 0.5) / len(self.choices) if any(same) else None
        if not isinstance(value, float) or not self.low <= value <= self.high:
            return None
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)
