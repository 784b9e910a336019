"""What every merge method is: a name, declared parameters, and a pure function of one tensor.

A method is planned once for a whole tensor, where it may take numbers that need all of it (a threshold, a norm). A plan
is one of two things: a `WeightedSum`, plain numbers that a compiled loop carries out on any device; or a function that
merges any span in torch, for what is no weighted sum. Both work element by element in float32: every product and sum is
rounded separately, experts are accumulated in label order and the base is added last, so that the result has the same
bits in any blocking, on any number of threads and on any device. This file knows nothing about files or models.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.kernels import cpu
from evomerge.recipes.recipe import Value

T = TypeVar("T")

#: Methods that are no weighted sums merge spans of this many elements at a time: so long that threads seldom wait for
#: the interpreter's lock.
BLOCK = 1 << 18

#: `(first, last)` -> elements first .. last - 1 of a tensor, in float32.
Span = Callable[[int, int], torch.Tensor]


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method.

    Attributes:
        name: its name in a recipe.
        meaning: one line for people.
        default: its value where a recipe does not set it; None: a recipe must.
        low, high: bounds of a number.
        choices: the values of one that is no number.
        text: it takes any text.
    """

    name: str
    meaning: str
    default: Value | None = None
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Value, ...] = ()
    text: bool = False

    def refusal(self, value: Value) -> str | None:
        """Return why `value` cannot be one of this parameter, or None if it can."""
        if self.text:
            return None if isinstance(value, str) else f"{value!r} is not a text"
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


#: An option of every method: the tensor is copied from one model instead of being merged.
PASSTHROUGH = Parameter(
    "passthrough", "copy the tensor from this model ('base' or an expert's label) instead", default="", text=True
)


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


class Source(Protocol):
    """The elements of one model's tensor."""

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 in C order, flat, in their own dtype; they must not be written to."""


class Statistics(Protocol):
    """Numbers that need a whole tensor and depend on the models alone, computed once and kept with the pool.

    Experts are numbered in label order. d_i is the task vector of expert i, X_0 the base and X_i expert i. Sums are
    exact sums of rounded terms (`reductions.exact_sum`), so they are the same in any order.
    """

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gives, remembered under `key` for this tensor and these experts."""

    def peak(self, expert: int) -> float:
        """Return the largest |d|."""

    def l1(self, expert: int) -> float:
        """Return sum |d|."""

    def gram(self) -> npt.NDArray[np.float64]:
        """Return the dot products of X_0 .. X_K, of shape (K + 1, K + 1)."""

    def gram_of_task_vectors(self) -> npt.NDArray[np.float64]:
        """Return the dot products of d_1 .. d_K, of shape (K, K)."""

    def kth_largest(self, expert: int, k: int) -> float:
        """Return the exact k-th largest |d| (k = 1: the largest; k from 1 to N)."""

    def kth_largest_of(self, key: Hashable, values: Span, k: int) -> float:
        """Return the exact k-th largest of N numbers >= 0 that depend on the models (and on `key`) alone."""

    def kth_largest_of_model(self, expert: int, density: float) -> float:
        """Return the k-th largest |d| over all merged tensors together, k = max(1, int(density * number))."""


@dataclass(frozen=True)
class Operands:
    """What goes into one merged tensor of N elements.

    Attributes:
        name: of the tensor.
        shape: of the tensor.
        labels: of the experts, sorted.
        base: the base's tensor.
        experts: the experts' tensors, in label order.
        statistics: numbers that need all of them.
        uniforms: `(expert, first, last)` -> the uint16 numbers of the DARE mask, of shape (last - first,).
        ranks: `(expert, first, last)` -> each element's rank by |d| in its row (the last dimension; 0: the smallest;
            equal ones by position), uint16 where a row has at most 65,536 elements, else int32.
    """

    name: str
    shape: tuple[int, ...]
    labels: tuple[str, ...]
    base: Source
    experts: tuple[Source, ...]
    statistics: Statistics
    uniforms: Callable[[int, int, int], torch.Tensor]
    ranks: Callable[[int, int, int], torch.Tensor]

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def columns(self) -> int:
        """The length of a row: the last dimension; a vector is one row."""
        return self.shape[-1] if self.shape else 1

    def expert(self, expert: int, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of an expert, in float32: do not write into it."""
        return float32(self.experts[expert].read(first, last))

    def origin(self, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of the base, in float32: do not write into it."""
        return float32(self.base.read(first, last))

    def delta(self, expert: int, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of a task vector, in float32: a new tensor."""
        return difference(self.experts[expert].read(first, last), self.base.read(first, last))


def float32(x: torch.Tensor) -> torch.Tensor:
    """Return x in float32, itself where it is; flat, on the CPU."""
    if x.dtype != torch.bfloat16:
        return x.float()
    out = torch.empty(x.numel())
    cpu.widen_all(x.view(torch.uint16).numpy(), out.numpy())
    return out


def difference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return x - y in float32, a new tensor; both flat, on the CPU."""
    if x.dtype == y.dtype == torch.bfloat16:
        out = torch.empty(x.numel())
        cpu.subtract(x.view(torch.uint16).numpy(), y.view(torch.uint16).numpy(), out.numpy())
        return out
    return torch.sub(x.float(), y.float())


@dataclass(frozen=True)
class RankMask:
    """A mask whose drop rate depends on an element's rank in its row.

    Attributes:
        thresholds: int32, of shape (columns,): an element of rank r is dropped where its number is below [r].
        factors: float32, of shape (columns,): what a kept element of rank r is multiplied by.
    """

    thresholds: npt.NDArray[np.int32]
    factors: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Term:
    """One expert's part in a weighted sum: v, thinned out, times `factor`, times `weight`.

    v is the task vector or the expert itself. All numbers are rounded to float32 before use. What is dropped is +0.

    Attributes:
        weight: w.
        threshold: elements whose mask number is below it are dropped (0: none, 65536: all).
        at_least, at_most: elements with |v| outside are dropped; ties are kept.
        factor: what is kept is multiplied by it, before the weight.
        by_rank: DELLA's mask, instead of `threshold`; its factors come before `factor`.
    """

    weight: float
    threshold: int = 0
    at_least: float = 0.0
    at_most: float = math.inf
    factor: float = 1.0
    by_rank: RankMask | None = None


Elect = Literal["none", "weighted", "unweighted"]


@dataclass(frozen=True)
class WeightedSum:
    """A merged tensor as factor * sum_i w_i v_i + base_weight * B.

    With an election an element's terms count only where their sign is the elected one: that of the sum of the w_i v_i
    ("weighted") or of the v_i ("unweighted"), + where that sum is zero; zeros agree with no sign.

    Attributes:
        terms: one an expert, in label order.
        task_vectors: v_i is X_i - B; otherwise X_i.
        elect: how signs are elected.
        divide_by_agreeing: divide each element by the sum of the weights of the terms that agree (0: by 1).
        factor: lambda.
        base_weight: 1 with task vectors. Otherwise any number, and then the factor is 1; at 0 the base is not read.
    """

    terms: tuple[Term, ...]
    task_vectors: bool = True
    elect: Elect = "none"
    divide_by_agreeing: bool = False
    factor: float = 1.0
    base_weight: float = 1.0


#: What a method plans for one tensor.
Plan = WeightedSum | Span


class Method(ABC):
    """A merge method. Objects are immutable and shared.

    Attributes:
        name: its name in a recipe.
        meaning: one line for people.
        parameters: what has a value per expert.
        options: what has one value for all experts.
        stochastic: whether it draws a DARE mask.
        experts: the fewest and the most experts it merges.
    """

    name: str
    meaning: str
    parameters: tuple[Parameter, ...]
    options: tuple[Parameter, ...] = ()
    stochastic: bool = False
    experts: tuple[int, float] = (1, math.inf)

    def refusal(self, settings: Settings) -> str | None:
        """Return why these values, each within its bounds, cannot go together, or None if they can."""
        return None

    @abstractmethod
    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """Compute the numbers that need the whole tensor, and say how a span of it is merged."""
