"""Model Stock: between the base and the mean of the experts, as far as their angle says (Jang et al., 2403.19522).

With c the mean cosine between two task vectors of K: t = K c / ((K - 1) c + 1), and the result is
t mean(X) + (1 - t) B, that is B + t mean(d). As in mergekit, norms that multiply to less than 1e-6 are taken as that
much (task vectors so short count as more orthogonal than they are), and t is 0 where its divisor is next to 0. Below 0
the cosine gives a negative t: the merged model then lies on the other side of the base.
"""

from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Span, Term, WeightedSum
from evomerge.merging.methods.slices import Slices

_SMALL = 1e-6


class ModelStock(Method):
    """B + t mean(d), t of the whole tensor or of each of its rows."""

    name = "model_stock"
    meaning = "towards the mean of the experts, the further the more their task vectors agree"
    parameters = ()
    options = (Parameter("filter_wise", "each row by its own angle", default=False, choices=(True, False)),)
    experts = (2, float("inf"))

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        count = len(operands.experts)
        if not settings.options["filter_wise"]:
            share = float(_ratios(operands.statistics.gram_of_task_vectors()[None])[0]) / count
            return WeightedSum((Term(share),) * count)
        rows = Slices(operands.size, operands.columns, rows=True)
        vectors: list[Span] = [partial(operands.delta, expert) for expert in range(count)]
        dots = operands.statistics.once("dots of rows", lambda: rows.dots(vectors))
        shares = torch.from_numpy((_ratios(dots) / count).astype(np.float32))

        def merge(first: int, last: int) -> torch.Tensor:
            total = operands.delta(0, first, last)
            for expert in range(1, count):
                total += operands.delta(expert, first, last)
            return total.mul_(rows.spread(shares, first, last)).add_(operands.origin(first, last))

        return merge


def _ratios(gram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return t for each of several Gram matrices of task vectors, of shape (..., K, K)."""
    count = gram.shape[-1]
    norms = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    cosines = [
        np.clip(gram[..., i, j] / np.maximum(norms[..., i] * norms[..., j], _SMALL), -1.0, 1.0)
        for i in range(count)
        for j in range(i + 1, count)
    ]
    cosine = np.asarray(sum(cosines) / len(cosines))
    divisor = 1.0 + (count - 1) * cosine
    singular = np.abs(divisor) < _SMALL
    return np.where(singular, 0.0, count * cosine / np.where(singular, 1.0, divisor))
