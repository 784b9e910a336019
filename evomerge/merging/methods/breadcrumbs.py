"""Model Breadcrumbs: task vectors without their largest and their smallest elements (Davari, Belilovsky, 2312.06795).

Names, defaults and counts are mergekit's: of N elements, ordered by magnitude, the `gamma` N largest are dropped first,
then as many small ones as the drop rate asks for; where it asks for fewer than `gamma` N, fewer large ones are dropped.
The paper's own two shares are beta for the large and gamma for the small elements.
"""

from math import inf

from evomerge.merging.methods.base import Operands, Parameter, Settings, Term
from evomerge.merging.methods.parameters import ELECT, LAMBDA, WEIGHT, density, normalize
from evomerge.merging.methods.task_arithmetic import TaskArithmetic

_DROP = Parameter(
    "drop_rate", "share of the task vector dropped, its largest and smallest", default=0.0, low=0.0, high=1.0
)
_GAMMA = Parameter("gamma", "share of the task vector dropped as too large", default=0.01, low=0.0, high=1.0)


class Breadcrumbs(TaskArithmetic):
    """Task arithmetic on task vectors cut off at both ends; elements that equal an edge are kept."""

    name = "breadcrumbs"
    meaning = "base plus weighted task vectors, each without its largest and smallest elements"
    parameters = (WEIGHT, _DROP, _GAMMA)
    options: tuple[Parameter, ...] = (normalize(False), LAMBDA)

    def term(self, operands: Operands, settings: Settings, expert: int, weight: float) -> Term:
        """See `TaskArithmetic.term`."""
        kept = density(float(settings.parameters[expert]["drop_rate"]))
        if kept >= 1.0 or operands.size == 0:
            return Term(weight)
        n = operands.size
        count = int(kept * n)
        if count == 0:
            return Term(weight, at_least=inf)
        # In ascending order by magnitude: elements smallest .. smallest + count - 1 are kept.
        smallest = max(0, n - count - int(float(settings.parameters[expert]["gamma"]) * n))
        largest = smallest + count - 1
        statistics = operands.statistics
        return Term(
            weight,
            at_least=statistics.kth_largest(expert, n - smallest) if smallest > 0 else 0.0,
            at_most=statistics.kth_largest(expert, n - largest) if largest < n - 1 else inf,
        )


class BreadcrumbsTies(Breadcrumbs):
    """Breadcrumbs' cutting off, then TIES' election of signs."""

    name = "breadcrumbs_ties"
    meaning = "task vectors without their largest and smallest elements, summed where their signs agree"
    options = (*Breadcrumbs.options, ELECT)
