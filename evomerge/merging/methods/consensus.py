"""Consensus merging with TALL masks (Wang et al., "Localizing task information", ICML 2024, 2405.07813).

With the multi-task vector S = sum_i d_i, expert i needs an element where |d_i| >= tall_lambda |S - d_i|: its TALL
mask. Elements that fewer than `k` experts need are dropped from S: those that only one needs are selfish, those that
none needs are catastrophic. The paper has no weights; here, and this is a decision, d_i is weighted before everything
else, so that weights of 1 are the paper's. k = 0 is task arithmetic.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.compiled import compiled
from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.parameters import LAMBDA, WEIGHT

_TALL_LAMBDA = Parameter(
    "tall_lambda", "an expert needs an element where its part is this many times the others' sum", default=0.6, low=0.0
)
_K = Parameter("k", "elements that fewer experts need are dropped", default=2.0, low=0.0)


class Consensus(Method):
    """B + lambda m S, m 1 where at least k experts need the element and 0 elsewhere."""

    name = "consensus"
    meaning = "base plus the weighted task vectors' sum, where enough experts need it"
    parameters = (WEIGHT,)
    options = (_TALL_LAMBDA, _K, LAMBDA)

    def refusal(self, settings: Settings) -> str | None:
        """See `Method.refusal`."""
        count = len(settings.parameters)
        if settings.number("k") > count:
            return f"k is {settings.number('k'):g}, but there are {count} experts: nothing would be merged; lower k"
        return None

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights, factor = settings.numbers("weight"), settings.number("lambda")
        ratio, enough = settings.number("tall_lambda"), settings.number("k")

        def merge(first: int, last: int) -> torch.Tensor:
            terms = [operands.delta(i, first, last).mul_(weight) for i, weight in enumerate(weights)]
            total = terms[0].clone()
            for term in terms[1:]:
                total += term
            needed, out = np.zeros(last - first, np.float32), operands.origin(first, last).clone()
            for term in terms:
                _need(term.numpy(), total.numpy(), np.float32(ratio), needed)
            _finish(total.numpy(), needed, np.float32(enough), np.float32(factor), out.numpy())
            return out

        return merge


@compiled
def _need(term: npt.NDArray[Any], total: npt.NDArray[Any], ratio: Any, needed: npt.NDArray[Any]) -> None:
    """Count an expert where it needs an element."""
    for i in range(term.size):
        needed[i] += np.float32(1) if abs(term[i]) >= abs(total[i] - term[i]) * ratio else np.float32(0)


@compiled
def _finish(total: npt.NDArray[Any], needed: npt.NDArray[Any], enough: Any, factor: Any, out: npt.NDArray[Any]) -> None:
    """Add the sum, where enough experts need it, to the base in `out`."""
    for i in range(out.size):
        out[i] = (total[i] if needed[i] >= enough else np.float32(0)) * factor + out[i]
