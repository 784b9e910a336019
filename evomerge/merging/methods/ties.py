"""TIES: trim, elect signs, merge what agrees (Yadav et al., "TIES-Merging", 2306.01708).

Names and defaults are mergekit's: trimmed tensor by tensor, signs elected by the weighted sum (+ where it is zero). The
paper's own ways are options: `trim: model` takes one threshold for all of an expert's tensors together, and
`elect: unweighted` elects before weights. The paper has one lambda and no weights, and divides by the number of terms
that agree: that is weights of 1.
"""

from math import inf

from evomerge.merging.methods.base import Operands, Parameter, Settings, Term
from evomerge.merging.methods.parameters import DROP_SMALL, ELECT, LAMBDA, WEIGHT, density, normalize
from evomerge.merging.methods.task_arithmetic import TaskArithmetic

_TRIM = Parameter(
    "trim",
    "what drop_rate is a share of: each tensor, or all of the model's tensors together",
    default="tensor",
    choices=("tensor", "model"),
)


class Ties(TaskArithmetic):
    """Task vectors trimmed by magnitude, signs elected, those that agree averaged.

    Every |d| >= T is kept, T the k-th largest, k = max(1, int(density N)); so all that equal T are kept.
    """

    name = "ties"
    meaning = "task vectors trimmed to their largest elements, then averaged where their signs agree"
    parameters = (WEIGHT, DROP_SMALL)
    options = (normalize(True), LAMBDA, _TRIM, ELECT)

    def term(self, operands: Operands, settings: Settings, expert: int, weight: float) -> Term:
        """See `TaskArithmetic.term`."""
        kept = density(float(settings.parameters[expert]["drop_rate"]))
        if kept >= 1.0 or operands.size == 0:
            return Term(weight)
        if kept <= 0.0:
            return Term(weight, at_least=inf)
        if settings.options["trim"] == "model":
            return Term(weight, at_least=operands.statistics.kth_largest_of_model(expert, kept))
        return Term(weight, at_least=operands.statistics.kth_largest(expert, max(1, int(kept * operands.size))))
