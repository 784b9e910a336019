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

from evomerge.compiled import compiled
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
        epsilon = np.float32(settings.number("epsilon"))
        factors = [np.float32(factor) for factor in self.factors(operands, settings)]

        def merge(first: int, last: int) -> torch.Tensor:
            out = operands.origin(first, last).clone()
            total, own, count = (np.zeros(last - first, np.float32) for _ in range(3))
            for expert, factor in enumerate(factors):
                _add(operands.delta(expert, first, last).numpy(), epsilon, factor, total, own, count)
            _finish(total, own, count, out.numpy())
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
        shared, unique = operands.statistics.once(
            ("ram", settings.number("epsilon")), lambda: _counts(operands, settings.number("epsilon"))
        )
        # an expert with no own changes has nothing to multiply
        ratios = [float(s / u) if u else 0.0 for s, u in zip(shared, unique, strict=True)]
        return [1.0 + settings.number("r") * min(ratio, settings.number("alpha")) for ratio in ratios]


def _counts(operands: Operands, epsilon: float) -> tuple[list[int], list[int]]:
    """Return how many of its changes each expert shares with others, and how many are its own."""
    experts = range(len(operands.experts))
    shared, unique = [0] * len(experts), [0] * len(experts)
    for first, last in spans(operands.size):
        changed = [np.abs(operands.delta(expert, first, last).numpy()) > np.float32(epsilon) for expert in experts]
        count = np.sum(changed, axis=0, dtype=np.int32)
        for expert in experts:
            alone = int(np.count_nonzero(changed[expert] & (count == 1)))
            unique[expert] += alone
            shared[expert] += int(np.count_nonzero(changed[expert])) - alone
    return shared, unique


@compiled
def _add(delta: Array, epsilon: Any, factor: Any, total: Array, own: Array, count: Array) -> None:
    """Add an expert's changes to the total, with its factor to what is somebody's own, and count them."""
    for i in range(delta.size):
        changed = abs(delta[i]) > epsilon
        d = delta[i] if changed else np.float32(0)
        total[i] += d
        own[i] += d * factor
        count[i] += np.float32(1) if changed else np.float32(0)


@compiled
def _finish(total: Array, own: Array, count: Array, out: Array) -> None:
    """Add what one expert changed, or the mean of what several did, to the base in `out`."""
    for i in range(out.size):
        mean = total[i] / max(count[i], np.float32(1))
        out[i] = (own[i] if count[i] == np.float32(1) else mean) + out[i]
