"""PCB: parameters that compete are balanced by scores (Du et al., "Parameter Competition Balancing", 2410.02396).

For K task vectors of N elements, with norm(x) = (x - min x) / (max x - min x) and softmax over the elements:

    intra_i = softmax(K norm(d_i d_i))            how much an element means to its own expert
    inter_i = sum_j softmax(norm(d_i d_j))        how well it agrees with the other experts' (j = i among them)
    s_i     = intra_i inter_i, 0 outside its (1 - drop_rate) N highest
    merged  = B + (sum_i s_i w_i d_i) / (sum_i s_i)

after the paper's section 3 as summaries give it (its equations themselves were not at hand); w_i is its lambda_i.
Decisions: scores are taken tensor by tensor, not over the whole model; softmaxes are multiplied by N (which cancels
out, and keeps them away from 0); scores that equal the smallest one kept are kept, max(1, int((1 - drop_rate) N)) at
least; norm of equal numbers is 0. The authors' code uses other scores: exp(K norm(|d_i|)^2) tanh(d_i sum_j d_j),
rescaled to [0, 1], and clips outliers of d_i.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.compiled import compiled
from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.exponential import exp
from evomerge.merging.methods.parameters import LARGEST, density
from evomerge.merging.methods.reductions import spans

Array = npt.NDArray[Any]

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
            out = operands.origin(first, last).clone()
            deltas = scores.deltas(first, last)
            total, divisor = np.zeros(last - first, np.float32), np.zeros(last - first, np.float32)
            for i, (weight, threshold) in enumerate(zip(weights, thresholds, strict=True)):
                score = scores.of(i, deltas)
                _add_kept(deltas[i], score, np.float32(threshold), np.float32(weight), total, divisor)
            _finish(total, divisor, out.numpy())
            return out

        return merge


@dataclass(frozen=True)
class _Softmax:
    """A softmax over a tensor's products x y, divided by its mean: exp(factor (x y - low) / width) / mean."""

    low: np.float32
    width: np.float32
    factor: np.float32
    mean: np.float32

    def of(self, x: Array, y: Array) -> Array:
        """Return its values in float32: a new array."""
        values = np.empty(x.size, np.float32)
        _power(x, y, self.low, self.width, self.factor, self.mean, values)
        return values


class _Scores:
    """The scores of a tensor's elements."""

    def __init__(self, operands: Operands) -> None:
        self.operands = operands
        self.count = len(operands.experts)
        pairs = [(i, j) for i in range(self.count) for j in range(i, self.count)]
        statistics = operands.statistics
        self._inter = {pair: statistics.once(("pcb", *pair, 1), partial(self._softmax, *pair, 1)) for pair in pairs}
        self._intra = [
            statistics.once(("pcb", i, i, "intra"), partial(self._softmax, i, i, self.count)) for i in range(self.count)
        ]

    def deltas(self, first: int, last: int) -> list[Array]:
        """Return the task vectors of a span."""
        return [self.operands.delta(expert, first, last).numpy() for expert in range(self.count)]

    def of(self, expert: int, deltas: list[Array]) -> Array:
        """Return an expert's scores, in float32: a new array."""
        own = deltas[expert]
        inter = np.zeros(own.size, np.float32)
        for other in range(self.count):
            inter += self._inter[min(expert, other), max(expert, other)].of(own, deltas[other])
        return self._intra[expert].of(own, own) * inter

    def threshold(self, expert: int, kept: float) -> float:
        """Return the least score that is kept."""
        size = self.operands.size
        if kept >= 1.0 or size == 0:
            return 0.0
        if kept <= 0.0:
            return math.inf

        def values(first: int, last: int) -> torch.Tensor:
            return torch.from_numpy(self.of(expert, self.deltas(first, last)))

        return self.operands.statistics.kth_largest_of(("pcb", expert), values, max(1, int(kept * size)))

    def _softmax(self, i: int, j: int, factor: int) -> _Softmax:
        low, high = math.inf, -math.inf
        for first, last in spans(self.operands.size):
            deltas = self.deltas(first, last)
            least, most = _range(deltas[i], deltas[j])
            low, high = min(low, float(least)), max(high, float(most))
        one = np.float32(1)
        # where all products are equal, so are all powers
        width = high - low if high > low else math.inf
        powers = _Softmax(np.float32(low), np.float32(width), np.float32(factor), one)
        scale, total = sums.scale_of(math.exp(factor) * 1.01, self.operands.size), 0
        for first, last in spans(self.operands.size):
            deltas = self.deltas(first, last)
            total += int(sums.fixed_sum(powers.of(deltas[i], deltas[j]), scale))
        mean = total / scale / max(self.operands.size, 1)
        return _Softmax(powers.low, powers.width, powers.factor, np.float32(mean))


@compiled
def _product(x: Any, y: Any) -> Any:
    return min(max(x * y, np.float32(-LARGEST)), np.float32(LARGEST))


@compiled
def _range(x: Array, y: Array) -> tuple[Any, Any]:
    """Return the least and the largest product."""
    low, high = np.float32(np.inf), np.float32(-np.inf)
    for i in range(x.size):
        product = _product(x[i], y[i])
        low, high = min(low, product), max(high, product)
    return low, high


@compiled
def _power(x: Array, y: Array, low: Any, width: Any, factor: Any, mean: Any, out: Array) -> None:
    for i in range(x.size):
        out[i] = exp((_product(x[i], y[i]) - low) / width * factor) / mean


@compiled
def _add_kept(delta: Array, score: Array, threshold: Any, weight: Any, total: Array, divisor: Array) -> None:
    """Add an expert's weighted elements times their scores, and the scores, where these are high enough."""
    for i in range(delta.size):
        kept = score[i] if score[i] >= threshold else np.float32(0)
        total[i] += delta[i] * weight * kept
        divisor[i] += kept


@compiled
def _finish(total: Array, divisor: Array, out: Array) -> None:
    """Add the mean to the base in `out`."""
    for i in range(out.size):
        out[i] = total[i] / (divisor[i] if divisor[i] != np.float32(0) else np.float32(1)) + out[i]
