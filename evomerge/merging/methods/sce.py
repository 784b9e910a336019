"""SCE: select, calculate, erase (Wan et al., "FuseChat", 2408.07990).

Select the elements whose variance over the experts is among the `select_topk` highest, calculate each expert's weight
from the mean square of its selected task vector, erase the elements whose sign is not the elected one, and average what
is left by the weights. Rules are mergekit's: tensor by tensor, the variance is that of the task vectors, the share is
one of the elements with a variance above 0, and weights are equal where the mean squares sum to less than `floor`.
mergekit's floor is 1e-6, which the task vectors of a light fine-tune rarely reach; the paper has none (0). All elements
whose variance equals the smallest selected one are selected; mergekit takes any as many as it needs.
"""

import math

import numpy as np
import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Span, Term, WeightedSum
from evomerge.merging.methods.parameters import LARGEST
from evomerge.merging.methods.reductions import exact_sum, kth_largest, spans

_TOP = Parameter("select_topk", "share of the elements that vary which is merged", default=1.0, low=0.0, high=1.0)
_FLOOR = Parameter("floor", "mean squares that sum to less make equal weights", default=1e-6, low=0.0)


class Sce(Method):
    """B + sum_i w_i s_i d_i / sum_i w_i s_i, s_i 1 where d_i is selected and has the elected sign, and 0 elsewhere."""

    name = "sce"
    meaning = "task vectors weighted by their mean squares where the experts vary most and signs agree"
    parameters = ()
    options = (_TOP, _FLOOR)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        share, floor, count = settings.number("select_topk"), settings.number("floor"), len(operands.experts)
        if share >= 1.0:
            squares = np.diag(operands.statistics.gram_of_task_vectors())
            weights = _weights([float(square) for square in squares], operands.size, floor)
            terms = tuple(Term(weight) for weight in weights)
            return WeightedSum(terms, elect="unweighted", divide_by_agreeing=True)
        threshold = _threshold(operands, share)

        def selected(first: int, last: int) -> list[torch.Tensor]:
            deltas = [operands.delta(expert, first, last) for expert in range(count)]
            dropped = _variance(deltas) < threshold
            return [delta.masked_fill_(dropped, 0.0) for delta in deltas]

        def square(expert: int) -> Span:
            return lambda first, last: selected(first, last)[expert].square_().clamp_(max=LARGEST)

        squares_selected = [exact_sum(square(expert), operands.size) for expert in range(count)]
        weights = _weights(squares_selected, operands.size, floor)

        def merge(first: int, last: int) -> torch.Tensor:
            deltas = selected(first, last)
            votes = deltas[0].clone()
            for delta in deltas[1:]:
                votes += delta
            positive = votes >= 0
            total, divisor = torch.zeros_like(votes), torch.zeros_like(votes)
            for delta, weight in zip(deltas, weights, strict=True):
                agrees = torch.where(positive, delta > 0, delta < 0)
                total += torch.where(agrees, delta * weight, 0.0)
                divisor += agrees.float().mul_(weight)
            total /= divisor.masked_fill_(divisor == 0, 1.0)
            return total.add_(operands.origin(first, last))

        return merge


def _variance(deltas: list[torch.Tensor]) -> torch.Tensor:
    """Return the variance (divided by their number) of the elements over the tensors; exactly 0 where all are equal."""
    total = deltas[0].clone()
    for delta in deltas[1:]:
        total += delta
    mean = total / torch.full_like(total, len(deltas))
    # the mean of equal numbers may be off by a rounding
    equal = torch.ones_like(mean, dtype=torch.bool)
    variance = torch.zeros_like(mean)
    for delta in deltas:
        variance += (delta - mean).square_()
        equal &= delta == deltas[0]
    return (variance / torch.full_like(variance, len(deltas))).clamp_(max=LARGEST).masked_fill_(equal, 0.0)


def _threshold(operands: Operands, share: float) -> float:
    """Return the least variance that is selected; infinity: none is."""

    def variance(first: int, last: int) -> torch.Tensor:
        return _variance([operands.delta(expert, first, last) for expert in range(len(operands.experts))])

    varying = sum(int(torch.count_nonzero(variance(first, last))) for first, last in spans(operands.size))
    k = int(varying * share)
    return kth_largest(variance, operands.size, k) if k > 0 else math.inf


def _weights(squares: list[float], size: int, floor: float) -> list[float]:
    """Return the experts' weights from the sums of squares of their task vectors."""
    means = [square / max(size, 1) for square in squares]
    total = sum(means)
    if total < floor or total == 0.0:
        return [1.0 / len(means)] * len(means)
    return [mean / total for mean in means]
