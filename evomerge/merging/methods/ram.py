"""RAM: what only one expert changed is kept whole, what several changed is averaged (Yuan et al., 2601.13572).

An expert has changed an element where |d| > epsilon. RAM+ multiplies what only expert i changed by
lambda_i = 1 + r clip(rho_i, 0, alpha), rho_i the number of elements that i shares with others over the number of those
that are its own. Names, defaults and the counting tensor by tensor (`ramplus_tl`: tensor-local; the paper counts over
the model) are mergekit's.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.kernels.compiled import compiled
from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.reductions import spans

Array = npt.NDArray[Any]

_EPSILON = Parameter("epsilon", "smaller changes are none", default=1e-5, low=0.0)


class Ram(Method):
    """B + sum_i m_i d_i / (sum_i m_i), m_i 1 where |d_i| > epsilon and 0 elsewhere."""

    name = "ram"
    meaning = "mean of the task vectors that changed an element"
    parameters = ()
    options: tuple[Parameter, ...] = (_EPSILON,)

    def factors(self, operands: Operands, settings: Settings) -> list[float]:
        """Return what each expert's own changes are multiplied by."""
        return [1.0] * len(operands.experts)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        epsilon, factors = settings.number("epsilon"), self.factors(operands, settings)

        def merge(first: int, last: int) -> torch.Tensor:
            out = torch.empty(last - first)
            deltas, origin = _deltas(operands, first, last), operands.origin(first, last)
            _merge(deltas, np.float32(epsilon), np.array(factors, np.float32), origin.numpy(), out.numpy())
            return out

        return merge


class RamPlus(Ram):
    """RAM, with an expert's own changes multiplied by lambda_i."""

    name = "ramplus_tl"
    meaning = "RAM, with an expert's own changes made larger the more it shares others'"
    options = (
        _EPSILON,
        Parameter("r", "how much own changes grow with rho", default=0.1, low=0.0),
        Parameter("alpha", "rho counts up to here", default=0.2, low=0.0),
    )

    def factors(self, operands: Operands, settings: Settings) -> list[float]:
        """See `Ram.factors`."""
        epsilon, experts = settings.number("epsilon"), len(operands.experts)
        shared, unique = np.zeros(experts, np.int64), np.zeros(experts, np.int64)
        for first, last in spans(operands.size):
            _count(_deltas(operands, first, last), np.float32(epsilon), shared, unique)
        # an expert with no own changes has nothing to multiply
        ratios = [float(s / u) if u else 0.0 for s, u in zip(shared, unique, strict=True)]
        return [1.0 + settings.number("r") * min(ratio, settings.number("alpha")) for ratio in ratios]


def _deltas(operands: Operands, first: int, last: int) -> npt.NDArray[np.float32]:
    """Return the task vectors of a span, of shape (experts, last - first)."""
    return np.stack([operands.delta(expert, first, last).numpy() for expert in range(len(operands.experts))])


@compiled
def _merge(deltas: Array, epsilon: Any, factors: Array, origin: Array, out: Array) -> None:
    """Write the merged elements."""
    experts, size = deltas.shape
    for i in range(size):
        count = 0
        for e in range(experts):
            count += abs(deltas[e, i]) > epsilon
        total = np.float32(0)
        for e in range(experts):
            d = deltas[e, i]
            if abs(d) > epsilon:
                total += d * factors[e] if count == 1 else d / np.float32(count)
        out[i] = total + origin[i]


@compiled
def _count(deltas: Array, epsilon: Any, shared: Array, unique: Array) -> None:
    """Add how many of its changes each expert shares with others, and how many are its own."""
    experts, size = deltas.shape
    for i in range(size):
        count = 0
        for e in range(experts):
            count += abs(deltas[e, i]) > epsilon
        for e in range(experts):
            changed = abs(deltas[e, i]) > epsilon
            shared[e] += changed and count > 1
            unique[e] += changed and count == 1
