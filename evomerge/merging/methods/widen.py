"""WIDEN: columns count by how far their length and direction moved (Yu et al., "Extend model merging", 2408.03092).

A weight matrix is a length and a direction for each column. An expert's columns are ranked by |length - base's length|,
and by 1 - cos(column, base's column); a rank is 0, 1/n, .. (n - 1)/n. A column's score is the softmax of its ranks over
the experts, or `score` where its rank is above `ratio` times the mean rank; the scores for length and direction are
averaged, and multiply the expert's task vector. Vectors have no columns: an element's score is the softmax of the |d|
over the experts, or `score` where |d| is above `ratio` times the tensor's mean. So the paper and its authors' code.

Columns run along the last dimension, over all dimensions before it; in embedding tables, told by their names, a token's
row is what a column is elsewhere. Decisions: columns of the same rank keep their order; a column of zeros that stays
one has not turned, and one that becomes or ceases to be zero has turned by a right angle.
"""

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Span
from evomerge.merging.methods.exponential import exponential
from evomerge.merging.methods.slices import Slices
from evomerge.recipes.groups import place

_RATIO = Parameter("ratio", "ranks above this many times the mean are important", default=1.0, low=0.0)
_SCORE = Parameter("score", "the score of what is important", default=1.0)


class Widen(Method):
    """B + sum_i score_i d_i, the scores by column, or by element in a vector. Scores need not sum to 1."""

    name = "widen"
    meaning = "task vectors weighted by how far each column moved, compared with the expert's others"
    parameters = ()
    options = (_RATIO, _SCORE)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        ratio, score = settings.number("ratio"), settings.number("score")
        if len(operands.shape) < 2:
            return _of_vector(operands, ratio, score)
        slices = Slices(operands.size, operands.columns, rows=place(operands.name).kind == "embeddings")
        count = len(operands.experts)
        lengths, turns = operands.statistics.once("widen", lambda: _all_ranks(operands, slices))
        scores = (_scores(lengths, ratio, score) + _scores(turns, ratio, score)) * 0.5
        by_slice = torch.from_numpy(scores.astype(np.float32))

        def merge(first: int, last: int) -> torch.Tensor:
            total = operands.delta(0, first, last).mul_(slices.spread(by_slice[0], first, last))
            for expert in range(1, count):
                total += operands.delta(expert, first, last).mul_(slices.spread(by_slice[expert], first, last))
            return total.add_(operands.origin(first, last))

        return merge


def _all_ranks(operands: Operands, slices: Slices) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return each expert's ranks of its slices by length and by direction, each of shape (experts, slices)."""
    lengths, turns = [], []
    for expert in range(len(operands.experts)):
        dots = slices.dots([operands.origin, lambda a, b, e=expert: operands.expert(e, a, b)])  # type: ignore[misc]
        length, turn = _moved(dots)
        lengths.append(_ranks(length))
        turns.append(_ranks(turn))
    return np.stack(lengths), np.stack(turns)


def _moved(dots: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return how much each slice changed its length, and how far it turned, from (base, expert)'s dot products."""
    before, after = np.sqrt(dots[:, 0, 0]), np.sqrt(dots[:, 1, 1])
    norms = np.sqrt(dots[:, 0, 0] * dots[:, 1, 1])  # of the product: exactly the dot product where nothing moved
    cosine = np.where(norms > 0, dots[:, 0, 1] / np.where(norms > 0, norms, 1.0), (before == after).astype(np.float64))
    return np.abs(after - before), 1.0 - cosine


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rank of each value, 0 for the smallest, divided by their number; equal ones by position."""
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values)) / max(len(values), 1)
    return ranks


def _scores(ranks: npt.NDArray[np.float64], ratio: float, score: float) -> npt.NDArray[np.float64]:
    """Return the scores of shape (experts, slices) from ranks of the same shape."""
    powers = exponential(ranks.astype(np.float32).ravel()).astype(np.float64).reshape(ranks.shape)
    total = powers[0].copy()
    for power in powers[1:]:
        total += power
    # the mean of 0, 1/n .. (n - 1)/n
    mean = (ranks.shape[1] - 1) / (2.0 * max(ranks.shape[1], 1))
    return np.where(ranks > mean * ratio, score, powers / total)


def _of_vector(operands: Operands, ratio: float, score: float) -> Span:
    count = len(operands.experts)
    means = [operands.statistics.l1(expert) / max(operands.size, 1) for expert in range(count)]

    def merge(first: int, last: int) -> torch.Tensor:
        deltas = [operands.delta(expert, first, last) for expert in range(count)]
        sizes = [delta.abs() for delta in deltas]
        largest = sizes[0]
        for size in sizes[1:]:
            largest = torch.maximum(largest, size)
        powers = [torch.from_numpy(exponential((size - largest).numpy())) for size in sizes]
        total_power = powers[0].clone()
        for power in powers[1:]:
            total_power += power
        total = torch.zeros(last - first)
        for delta, size, power, mean in zip(deltas, sizes, powers, means, strict=True):
            total += delta * torch.where(size > mean * ratio, score, power / total_power)
        return total.add_(operands.origin(first, last))

    return merge
