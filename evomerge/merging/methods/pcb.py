"""PCB: parameters that compete are balanced by scores (Du et al., "Parameter Competition Balancing", 2410.02396).

For K task vectors of N elements, with norm(x) = (x - min x) / (max x - min x) and softmax over the elements:

    intra_i = softmax(K norm(d_i d_i))            how much an element means to its own expert
    inter_i = sum_j softmax(norm(d_i d_j))        how well it agrees with the other experts' (j = i among them)
    s_i     = intra_i inter_i, 0 outside its (1 - drop_rate) N highest
    merged  = B + (sum_i s_i w_i d_i) / (sum_i s_i)

from the paper's section 3; w_i is its lambda_i. Decisions: scores are taken tensor by tensor, not over the whole model;
softmaxes are multiplied by N (which cancels out, and keeps them away from 0); scores that equal the smallest one kept
are kept, max(1, int((1 - drop_rate) N)) at least; norm of equal numbers is 0. The authors' code uses other scores than
the paper: exp(K norm(|d_i|)^2) tanh(d_i sum_j d_j), rescaled to [0, 1], and clips outliers of d_i.
"""

import math

import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.exponential import exponential
from evomerge.merging.methods.parameters import LARGEST, density
from evomerge.merging.methods.reductions import exact_sum, kth_largest, spans

_WEIGHT = Parameter("weight", "factor of the expert", default=1.0)
_DROP = Parameter("drop_rate", "share of the task vector dropped, lowest score first", default=0.9, low=0.0, high=1.0)


class Pcb(Method):
    """B + (sum_i s_i w_i d_i) / (sum_i s_i); B where all scores are 0."""

    name = "pcb"
    meaning = "mean of the task vectors by scores of how much an element means to its expert and agrees with others"
    parameters = (_WEIGHT, _DROP)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights = settings.numbers("weight")
        scores = _Scores(operands)
        thresholds = [scores.threshold(i, density(rate)) for i, rate in enumerate(settings.numbers("drop_rate"))]

        def merge(first: int, last: int) -> torch.Tensor:
            deltas = scores.deltas(first, last)
            total, divisor = torch.zeros(last - first), torch.zeros(last - first)
            for i, (weight, threshold) in enumerate(zip(weights, thresholds, strict=True)):
                score = scores.of(i, deltas)
                score.masked_fill_(score < threshold, 0.0)
                total += deltas[i] * weight * score
                divisor += score
            total /= divisor.masked_fill_(divisor == 0, 1.0)
            return total.add_(operands.origin(first, last))

        return merge


class _Scores:
    """The scores of a tensor's elements: the ranges of the products of task vectors, and their softmaxes' means."""

    def __init__(self, operands: Operands) -> None:
        self.operands = operands
        self.count = len(operands.experts)
        pairs = [(i, j) for i in range(self.count) for j in range(i, self.count)]
        self._low, self._high = dict.fromkeys(pairs, math.inf), dict.fromkeys(pairs, -math.inf)
        for first, last in spans(operands.size):
            deltas = self.deltas(first, last)
            for i, j in pairs:
                low, high = torch.aminmax(_product(deltas[i], deltas[j]))
                self._low[i, j], self._high[i, j] = min(self._low[i, j], float(low)), max(self._high[i, j], float(high))
        self._inter = {pair: self._mean(*pair, 1) for pair in pairs}
        self._intra = [self._mean(i, i, self.count) for i in range(self.count)]

    def deltas(self, first: int, last: int) -> list[torch.Tensor]:
        """Return the task vectors of a span."""
        return [self.operands.delta(expert, first, last) for expert in range(self.count)]

    def of(self, expert: int, deltas: list[torch.Tensor]) -> torch.Tensor:
        """Return an expert's scores, in float32: a new tensor."""
        inter = torch.zeros_like(deltas[expert])
        for other in range(self.count):
            i, j = min(expert, other), max(expert, other)
            inter += self._power(i, j, 1, deltas) / torch.full_like(inter, self._inter[i, j])
        return self._power(expert, expert, self.count, deltas) / torch.full_like(inter, self._intra[expert]) * inter

    def threshold(self, expert: int, kept: float) -> float:
        """Return the least score that is kept."""
        size = self.operands.size
        if kept >= 1.0 or size == 0:
            return 0.0
        if kept <= 0.0:
            return math.inf
        return kth_largest(lambda a, b: self.of(expert, self.deltas(a, b)), size, max(1, int(kept * size)))

    def _power(self, i: int, j: int, factor: int, deltas: list[torch.Tensor]) -> torch.Tensor:
        """Return exp(factor norm(d_i d_j))."""
        low, width = self._low[i, j], self._high[i, j] - self._low[i, j]
        product = _product(deltas[i], deltas[j])
        if width <= 0.0:
            return torch.ones_like(product)
        return exponential((product - low) / torch.full_like(product, width) * factor)

    def _mean(self, i: int, j: int, factor: int) -> float:
        size = self.operands.size
        return exact_sum(lambda a, b: self._power(i, j, factor, self.deltas(a, b)), size) / max(size, 1)


def _product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).clamp_(-LARGEST, LARGEST)
