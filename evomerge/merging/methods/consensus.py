"""Consensus merging with TALL masks (Wang et al., "Localizing task information", ICML 2024, 2405.07813).

With the multi-task vector S = sum_i d_i, expert i needs an element where |d_i| >= tall_lambda |S - d_i|: its TALL
mask. Elements that fewer than `k` experts need are dropped from S: those that only one needs are selfish, those that
none needs are catastrophic. The paper has no weights; here, and this is a decision, d_i is weighted before everything
else, so that weights of 1 are the paper's. k = 0 is task arithmetic.
"""

import torch

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
            needed = torch.zeros(last - first, dtype=torch.int32)
            for term in terms:
                needed += term.abs() >= (total - term).abs_().mul_(ratio)
            return total.masked_fill_(needed < enough, 0.0).mul_(factor).add_(operands.origin(first, last))

        return merge
