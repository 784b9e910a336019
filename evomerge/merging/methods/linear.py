"""Linear: the weighted mean of the experts themselves (model soups, Wortsman et al., 2203.05482).

This file knows nothing about task vectors: the base has no part in it.
"""

from evomerge.merging.methods.base import Method, Operands, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.parameters import WEIGHT, cancel, normalize, normalized


class Linear(Method):
    """sum_i w_i X_i, divided by sum_i w_i where `normalize` is on."""

    name = "linear"
    meaning = "weighted mean of the experts"
    parameters = (WEIGHT,)
    options = (normalize(True),)

    def refusal(self, settings: Settings) -> str | None:
        """See `Method.refusal`."""
        if settings.options["normalize"] and cancel(settings.numbers("weight")):
            return "the weights sum to zero and cannot be normalised; change them or set normalize to false"
        return None

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights = settings.numbers("weight")
        if settings.options["normalize"]:
            weights = normalized(weights)
        return WeightedSum(tuple(Term(weight) for weight in weights), task_vectors=False, base_weight=0.0)
