"""DARE: task vectors thinned at random and rescaled (Yu et al., "Language models are super Mario", 2311.03099).

An element is dropped with probability p, by the mask of `merging.mask`, and the others are multiplied by the inverse of
the keep probability, as in the paper. mergekit, whose names these are, restores the tensor's L1 norm instead: that is
`rescale: l1`.
"""

import numpy as np

from evomerge.merging import mask
from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import Operands, Parameter, Settings, Term
from evomerge.merging.methods.parameters import (
    DROP_AT_RANDOM,
    ELECT,
    LAMBDA,
    LARGEST,
    WEIGHT,
    normalize,
    rescale,
)
from evomerge.merging.methods.reductions import spans
from evomerge.merging.methods.task_arithmetic import TaskArithmetic

# Below this no L1 norm is restored, as mergekit has it.
_SMALL_NORM = 1e-7


class DareLinear(TaskArithmetic):
    """Task arithmetic on task vectors thinned by the DARE mask."""

    name = "dare_linear"
    meaning = "base plus weighted task vectors, each thinned at random and rescaled"
    parameters = (WEIGHT, DROP_AT_RANDOM)
    options: tuple[Parameter, ...] = (normalize(False), LAMBDA, rescale("inv_keep"))
    stochastic = True

    def term(self, operands: Operands, settings: Settings, expert: int, weight: float) -> Term:
        """See `TaskArithmetic.term`."""
        t = mask.threshold(float(settings.parameters[expert]["drop_rate"]))
        if settings.options["rescale"] == "inv_keep":
            return Term(weight, threshold=t, factor=mask.rescale(t))
        if t in (0, 65536):
            return Term(weight, threshold=t)

        scale = sums.scale_of(operands.statistics.peak(expert), operands.size)
        after = 0
        for first, last in spans(operands.size):
            delta, numbers = operands.delta(expert, first, last), operands.uniforms(expert, first, last)
            after += int(sums.fixed_kept(delta.numpy(), numbers.numpy(), np.uint16(t), scale))
        return Term(weight, threshold=t, factor=restoring(operands.statistics.l1(expert), after / scale))


class DareTies(DareLinear):
    """DARE's thinning, then TIES' election of signs."""

    name = "dare_ties"
    meaning = "task vectors thinned at random and rescaled, then summed where their signs agree"
    options = (*DareLinear.options, ELECT)


def restoring(before: float, after: float) -> float:
    """Return the factor that restores an L1 norm; 1 where one of the norms is next to nothing."""
    return 1.0 if min(before, after) < _SMALL_NORM else min(before / after, LARGEST)
