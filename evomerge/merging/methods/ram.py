"""RAM: what only one expert changed is kept whole, what several changed is averaged (Yuan et al., 2601.13572).

An expert has changed an element where |d| > epsilon. RAM+ multiplies what only expert i changed by
lambda_i = 1 + r clip(rho_i, 0, alpha), rho_i the number of elements that i shares with others over the number of those
that are its own. Names, defaults and the counting tensor by tensor (`ramplus_tl`: tensor-local; the paper counts over
the model) are mergekit's.
"""

import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.reductions import spans

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
            deltas, changed, count = changes(operands, epsilon, first, last)
            total = torch.zeros(last - first)
            for delta, own, factor in zip(deltas, changed, factors, strict=True):
                term = torch.where(count == 1, delta * factor, delta / count.clamp(min=1).float())
                total += term.masked_fill_(~own, 0.0)
            return total.add_(operands.origin(first, last))

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
        shared, unique = [0] * experts, [0] * experts
        for first, last in spans(operands.size):
            _, changed, count = changes(operands, epsilon, first, last)
            for i, own in enumerate(changed):
                shared[i] += int(torch.count_nonzero(own & (count > 1)))
                unique[i] += int(torch.count_nonzero(own & (count == 1)))
        # an expert with no own changes has nothing to multiply
        ratios = [s / u if u else 0.0 for s, u in zip(shared, unique, strict=True)]
        return [1.0 + settings.number("r") * min(ratio, settings.number("alpha")) for ratio in ratios]


def changes(
    operands: Operands, epsilon: float, first: int, last: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], torch.Tensor]:
    """Return the task vectors of a span, where each expert changed it, and how many did (int32)."""
    deltas = [operands.delta(expert, first, last) for expert in range(len(operands.experts))]
    changed = [delta.abs() > epsilon for delta in deltas]
    count = changed[0].to(torch.int32)
    for own in changed[1:]:
        count = count + own
    return deltas, changed, count
