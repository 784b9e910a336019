"""Task arithmetic: the base plus weighted task vectors (Ilharco et al., 2212.04089).

The methods that thin the task vectors out first, or elect signs, are its subclasses, in files of their own. This file
knows nothing about how they thin.
"""

from typing import cast

from evomerge.merging.methods.base import Elect, Method, Operands, Parameter, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.parameters import LAMBDA, WEIGHT, normalize, normalized


class TaskArithmetic(Method):
    """B + lambda * sum_i w_i d_i, the sum divided by sum_i w_i where `normalize` is on.

    Subclasses thin the d_i out (`term`). One that has the option `elect` sums an element's terms only where they agree
    with the elected sign, and divides by the weights of those alone. Weights that cancel out are not divided by, as
    in mergekit.
    """

    name = "task_arithmetic"
    meaning = "base plus weighted task vectors"
    parameters: tuple[Parameter, ...] = (WEIGHT,)
    options: tuple[Parameter, ...] = (normalize(False), LAMBDA)

    def term(self, operands: Operands, settings: Settings, expert: int, weight: float) -> Term:
        """Return an expert's part: its task vector, thinned out."""
        return Term(weight)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights = settings.numbers("weight")
        elect = cast(Elect, settings.options.get("elect", "none"))
        divide = bool(settings.options["normalize"])
        if divide and elect == "none":
            weights = normalized(weights)
        return WeightedSum(
            tuple(self.term(operands, settings, expert, weight) for expert, weight in enumerate(weights)),
            elect=elect,
            divide_by_agreeing=divide and elect != "none",
            factor=settings.number("lambda"),
        )
