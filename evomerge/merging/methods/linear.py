"""Linear: the weighted mean of the experts themselves (model soups, Wortsman et al., 2203.05482).

This file knows nothing about task vectors: the base has no part in it.
"""

import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings

WEIGHT = Parameter("weight", "factor of the expert")
# A divisor this small says that the weights cancel out, as mergekit has it.
SMALL_DIVISOR = 1e-8


def float32_sum(weights: list[float]) -> float:
    """Return the sum of the weights in float32, each addition rounded, in label order."""
    total = torch.zeros((), dtype=torch.float32)
    for weight in weights:
        total = total + torch.tensor(weight, dtype=torch.float32)
    return float(total)


class Linear(Method):
    """sum_i w_i X_i, divided by sum_i w_i where `normalize` is on."""

    name = "linear"
    meaning = "weighted mean of the experts"
    parameters = (WEIGHT,)
    options = (Parameter("normalize", "divide by the sum of the weights", default=True, choices=(True, False)),)

    def refusal(self, settings: Settings) -> str | None:
        """See `Method.refusal`."""
        if settings.options["normalize"] and abs(float32_sum(settings.numbers("weight"))) < SMALL_DIVISOR:
            return "the weights sum to zero and cannot be normalised; change them or set normalize to false"
        return None

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights = settings.numbers("weight")
        # A tensor, not a number: torch may multiply by the reciprocal of a number, which rounds differently.
        divisor = torch.tensor([float32_sum(weights)], dtype=torch.float32) if settings.options["normalize"] else None

        def merge(first: int, last: int) -> torch.Tensor:
            total = operands.experts[0][first:last].float() * weights[0]
            for expert, weight in zip(operands.experts[1:], weights[1:], strict=True):
                total += expert[first:last].float() * weight
            return total if divisor is None else total.div_(divisor)

        return merge
