"""What every merge method is: a name, declared parameters, and a pure function of one tensor.

A method is planned once for a whole tensor, where it may take numbers that need all of it (a threshold, a norm), and
then merges any span of it, element by element, in float32. Every product and sum is rounded separately, experts are
accumulated in label order and the base is added last, so that the result has the same bits in any blocking, on any
number of threads and on any device. This file knows nothing about files, recipes or models.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from evomerge.recipes.recipe import Value

#: Spans of this many elements are merged at a time: the temporaries stay in the cache, and torch stays on one thread.
BLOCK = 1 << 15


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        name: its name in a recipe.
        meaning: one line for people.
        default: its value where a recipe does not set it; None: a recipe must.
        low, high: bounds of a number.
        choices: the values of one that is no number.
    """

    name: str
    meaning: str
    default: Value | None = None
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Value, ...] = ()

    def refusal(self, value: Value) -> str | None:
        """Return why `value` cannot be one of this parameter, or None if it can."""
        if self.choices:
            # type(): 1.0 is no true
            if any(type(value) is type(choice) and value == choice for choice in self.choices):
                return None
            return f"{value!r} is none of {', '.join(map(str, self.choices))}"
        if not isinstance(value, float):
            return f"{value!r} is not a number"
        if not self.low <= value <= self.high:
            return f"{value} is outside [{self.low:g}, {self.high:g}]"
        return None


@dataclass(frozen=True)
class Settings:
    """The values that hold at one tensor.

    Attributes:
        parameters: a mapping name -> value for each expert, in label order; complete, with defaults.
        options: name -> value; complete.
    """

    parameters: tuple[Mapping[str, Value], ...]
    options: Mapping[str, Value]

    def numbers(self, name: str) -> list[float]:
        """Return the values of a numeric parameter, one an expert."""
        return [float(values[name]) for values in self.parameters]

    def number(self, name: str) -> float:
        """Return the value of a numeric option."""
        return float(self.options[name])


@dataclass(frozen=True)
class Operands:
    """What goes into one merged tensor of N elements.

    Attributes:
        base: flat, of shape (N,), in its own dtype.
        experts: likewise, in label order.
        uniforms: `(expert's position, first, count)` -> the uint16 numbers of its DARE mask, of shape (count,).
    """

    base: torch.Tensor
    experts: tuple[torch.Tensor, ...]
    uniforms: Callable[[int, int, int], torch.Tensor]

    @property
    def size(self) -> int:
        """The number of elements."""
        return self.base.numel()

    def delta(self, expert: int, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of a task vector, in float32: a new tensor."""
        return torch.sub(self.experts[expert][first:last].float(), self.base[first:last].float())


#: `(first, last)` -> elements first .. last - 1 of the merged tensor, in float32.
Plan = Callable[[int, int], torch.Tensor]


class Method(ABC):
    """A merge method. Objects are immutable and shared.

    Attributes:
        name: its name in a recipe.
        meaning: one line for people.
        parameters: what has a value per expert.
        options: what has one value for all experts.
        stochastic: whether it draws a DARE mask.
    """

    name: str
    meaning: str
    parameters: tuple[Parameter, ...]
    options: tuple[Parameter, ...] = ()
    stochastic: bool = False

    def refusal(self, settings: Settings) -> str | None:
        """Return why these values, each within its bounds, cannot go together, or None if they can."""
        return None

    @abstractmethod
    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """Compute the numbers that need the whole tensor, and return the function that merges a span of it."""
