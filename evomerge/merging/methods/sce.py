"""SCE: select, calculate, erase (Wan et al., "FuseChat", 2408.07990).

Select the elements whose variance over the experts is among the `select_topk` highest, calculate each expert's weight
from the mean square of its selected task vector, erase the elements whose sign is not the elected one, and average what
is left by the weights. Rules are mergekit's: tensor by tensor, the variance is that of the task vectors, the share is
one of the elements with a variance above 0, and weights are equal where the mean squares sum to less than `floor`.
mergekit's floor is 1e-6, which the task vectors of a light fine-tune rarely reach; the paper has none (0). All elements
whose variance equals the smallest selected one are selected; mergekit takes any as many as it needs.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.compiled import compiled
from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.parameters import LARGEST
from evomerge.merging.methods.reductions import spans

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
        share, floor = settings.number("select_topk"), settings.number("floor")
        if share >= 1.0:
            gram = operands.statistics.gram_of_task_vectors()
            weights = _weights([float(square) for square in np.diag(gram)], operands.size, floor)
            return WeightedSum(tuple(map(Term, weights)), elect="unweighted", divide_by_agreeing=True)
        threshold, squares = operands.statistics.once(("sce", share), lambda: _selection(operands, share))
        weights = _weights(squares, operands.size, floor)

        def merge(first: int, last: int) -> torch.Tensor:
            deltas = list(torch.from_numpy(_selected(operands, threshold, first, last)))
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


def _selection(operands: Operands, share: float) -> tuple[float, list[float]]:
    """Return the least variance that is selected (infinity: none is), and each expert's sum of selected squares."""
    experts, size = len(operands.experts), operands.size
    varying, peaks = 0, [0.0] * experts
    for first, last in spans(size):
        deltas = _deltas(operands, first, last)
        varying += int(np.count_nonzero(_variance(deltas)))
        peaks = [max(peak, float(sums.peak(delta))) for peak, delta in zip(peaks, deltas, strict=True)]
    k = int(varying * share)
    if k == 0:
        return math.inf, [0.0] * experts
    threshold = operands.statistics.kth_largest_of(
        "variance", lambda a, b: torch.from_numpy(_variance(_deltas(operands, a, b))), k
    )
    # exact sums of rounded squares, as in `reductions`
    scales, totals = [sums.scale_of(peak * peak, size) for peak in peaks], [0] * experts
    for first, last in spans(size):
        for i, delta in enumerate(_selected(operands, threshold, first, last)):
            totals[i] += int(sums.fixed_dot(delta, delta, scales[i]))
    return threshold, [total / scale for total, scale in zip(totals, scales, strict=True)]


def _deltas(operands: Operands, first: int, last: int) -> npt.NDArray[np.float32]:
    """Return the task vectors of a span, of shape (experts, last - first)."""
    return np.stack([operands.delta(expert, first, last).numpy() for expert in range(len(operands.experts))])


def _selected(operands: Operands, threshold: float, first: int, last: int) -> npt.NDArray[np.float32]:
    """Return the same, 0 where the variance is below a threshold."""
    deltas = _deltas(operands, first, last)
    return np.where(_variance(deltas) >= np.float32(threshold), deltas, np.float32(0))


@compiled
def _variance(deltas: Any) -> Any:
    """Return the variance (divided by their number) of each column in float32; exactly 0 where all are equal."""
    experts, size = deltas.shape
    mean, out, differ = deltas[0].copy(), np.zeros(size, np.float32), np.zeros(size, np.bool_)
    for e in range(1, experts):
        for i in range(size):
            mean[i] += deltas[e, i]
            differ[i] |= deltas[e, i] != deltas[0, i]
    for i in range(size):
        mean[i] /= np.float32(experts)
    for e in range(experts):
        for i in range(size):
            difference = deltas[e, i] - mean[i]
            out[i] += difference * difference
    for i in range(size):
        # the mean of equal numbers may be off by a rounding
        out[i] = min(out[i] / np.float32(experts), np.float32(LARGEST)) if differ[i] else np.float32(0)
    return out


def _weights(squares: list[float], size: int, floor: float) -> list[float]:
    """Return the experts' weights from the sums of squares of their task vectors."""
    means = [square / max(size, 1) for square in squares]
    total = sum(means)
    if total < floor or total == 0.0:
        return [1.0 / len(means)] * len(means)
    return [mean / total for mean in means]
