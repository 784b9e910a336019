"""DELLA: task vectors thinned at random, small elements more often (Deep et al., "DELLA-Merging", 2406.11617).

An element's keep probability grows evenly with the rank of its magnitude in its row, from density - epsilon for the
smallest to density + epsilon for the largest. Names and defaults are mergekit's, which restores the tensor's L1 norm
(`rescale: l1`); the paper multiplies each kept element by the inverse of its own keep probability
(`rescale: inv_keep`). Probabilities beyond [0, 1], which mergekit refuses, are clipped: what is kept surely needs no
draw, and the share that is dropped is no longer the drop rate. The one element of a row of one, where mergekit fails,
is kept with probability density. A vector is one row.
"""

import numpy as np

from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import Operands, Parameter, RankMask, Settings, Term
from evomerge.merging.methods.dare import restoring
from evomerge.merging.methods.parameters import DROP_AT_RANDOM, ELECT, LAMBDA, WEIGHT, density, normalize, rescale
from evomerge.merging.methods.reductions import spans
from evomerge.merging.methods.task_arithmetic import TaskArithmetic

_EPSILON = Parameter(
    "epsilon",
    "how far the keep probability goes below and above 1 - drop_rate",
    default=0.15,
    low=0.0,
    high=1.0,
)


def rank_mask(kept: float, epsilon: float, columns: int, *, inv_keep: bool) -> RankMask:
    """Return what holds at each rank of a row; thresholds by the rule of `mask.threshold`."""
    if columns == 1:
        keep = np.array([kept])
    else:
        keep = np.clip(kept - epsilon + np.arange(columns) / (columns - 1) * (2 * epsilon), 0.0, 1.0)
    thresholds = np.ceil(65536.0 * (1.0 - keep) - 0.5)
    factors = np.where(thresholds < 65536, 65536.0 / np.maximum(65536.0 - thresholds, 1.0), 0.0)
    return RankMask(thresholds.astype(np.int32), (factors if inv_keep else np.ones(columns)).astype(np.float32))


class DellaLinear(TaskArithmetic):
    """Task arithmetic on task vectors thinned by rank."""

    name = "della_linear"
    meaning = "base plus weighted task vectors, each thinned at random, small elements more often"
    parameters = (WEIGHT, DROP_AT_RANDOM, _EPSILON)
    options: tuple[Parameter, ...] = (normalize(False), LAMBDA, rescale("l1"))
    stochastic = True

    def term(self, operands: Operands, settings: Settings, expert: int, weight: float) -> Term:
        """See `TaskArithmetic.term`."""
        values = settings.parameters[expert]
        kept, epsilon = density(float(values["drop_rate"])), float(values["epsilon"])
        if kept >= 1.0 or operands.size == 0:
            return Term(weight)
        if kept <= 0.0:
            return Term(weight, threshold=65536)
        inv_keep = settings.options["rescale"] == "inv_keep"
        by_rank = rank_mask(kept, epsilon, operands.columns, inv_keep=inv_keep)
        if inv_keep:
            return Term(weight, by_rank=by_rank)

        scale = sums.scale_of(operands.statistics.peak(expert), operands.size)
        after = 0
        for first, last in spans(operands.size):
            delta, numbers = operands.delta(expert, first, last), operands.uniforms(expert, first, last)
            ranks = operands.ranks(expert, first, last).numpy()
            after += int(sums.fixed_kept_by_rank(delta.numpy(), numbers.numpy(), ranks, by_rank.thresholds, scale))
        return Term(weight, factor=restoring(operands.statistics.l1(expert), after / scale), by_rank=by_rank)


class Della(DellaLinear):
    """DELLA's thinning, then TIES' election of signs."""

    name = "della"
    meaning = "task vectors thinned at random, small elements more often, then averaged where their signs agree"
    options = (normalize(True), LAMBDA, rescale("l1"), ELECT)
