"""Passthrough: one model as it is, or scaled (mergekit).

To take only some tensors from one model, use the option `passthrough`, which every method has.
"""

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum


class Passthrough(Method):
    """scale X."""

    name = "passthrough"
    meaning = "the one expert, scaled"
    parameters = ()
    options = (Parameter("scale", "factor of the tensor", default=1.0),)
    experts = (1, 1)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        return WeightedSum((Term(settings.number("scale")),), task_vectors=False, base_weight=0.0)
