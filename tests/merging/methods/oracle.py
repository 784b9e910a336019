"""What a `WeightedSum` means, step by step in float32, whole tensors at a time: the compiled loops must equal its bits.

numpy's float32, where every product and sum is rounded by itself.
"""

from collections.abc import Sequence

import numpy as np
import torch

from evomerge.merging.methods import Term, WeightedSum

F = np.float32


def weighted_sum(
    plan: WeightedSum,
    base: torch.Tensor,
    experts: Sequence[torch.Tensor],
    numbers: Sequence[torch.Tensor | None],
    ranks: Sequence[torch.Tensor | None],
) -> torch.Tensor:
    """Return the merged tensor, flat, in float32.

    Args:
        plan: what to do.
        base, experts: flat tensors of N elements, of any dtype.
        numbers: the uint16 numbers of each expert's mask (N elements); None where its term draws none.
        ranks: each element's rank in its row (N elements); None where its term has no `by_rank`.
    """
    origin = base.float().numpy()
    parts = []
    for term, expert, drawn, rank in zip(plan.terms, experts, numbers, ranks, strict=True):
        x = expert.float().numpy()
        parts.append(_part(term, x - origin if plan.task_vectors else x, drawn, rank))
    weights = [F(term.weight) for term in plan.terms]
    products = [part * weight for part, weight in zip(parts, weights, strict=True)]
    if plan.elect == "none":
        total = products[0]
        for product in products[1:]:
            total = total + product
    else:
        opinions = products if plan.elect == "weighted" else parts
        votes = opinions[0]
        for opinion in opinions[1:]:
            votes = votes + opinion
        total, agreeing = np.zeros_like(origin), np.zeros_like(origin)
        for product, opinion, weight in zip(products, opinions, weights, strict=True):
            agrees = np.where(votes >= 0, opinion > 0, opinion < 0)
            total = total + np.where(agrees, product, F(0))
            agreeing = agreeing + np.where(agrees, weight, F(0))
        if plan.divide_by_agreeing:
            total = total / np.where(agreeing == 0, F(1), agreeing)
    total = total * F(plan.factor)
    if F(plan.base_weight) != 0:
        total = total + origin * F(plan.base_weight)
    assert total.dtype == F
    return torch.from_numpy(total)


def _part(term: Term, v: np.ndarray, drawn: torch.Tensor | None, rank: torch.Tensor | None) -> np.ndarray:
    kept = (np.abs(v) >= F(term.at_least)) & (np.abs(v) <= F(term.at_most))
    if term.by_rank is not None:
        assert drawn is not None
        assert rank is not None
        at = rank.numpy()
        kept &= drawn.numpy() >= term.by_rank.thresholds[at]
        v = v * term.by_rank.factors[at]
    elif term.threshold > 0:
        assert drawn is not None
        kept &= drawn.numpy() >= np.int32(term.threshold)
    return np.where(kept, v * F(term.factor), F(0))
