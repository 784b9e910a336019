"""The merged tensors of a recipe one after the other, straight from the checkpoints, a few in memory at a time.

This file knows nothing about where the tensors go.
"""

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

import torch

from evomerge.checkpoints import ModelPool
from evomerge.merging.mask import uniforms
from evomerge.merging.match import check_same_models
from evomerge.merging.settings import check
from evomerge.merging.tensors import TensorRecipe, merge_into
from evomerge.recipes import Recipe


@dataclass(frozen=True)
class MergedTensor:
    """A merged tensor in the recipe's dtype, with the fingerprint of its bits."""

    name: str
    tensor: torch.Tensor
    fingerprint: int


def stream(recipe: Recipe, pool: ModelPool, *, threads: int = 1) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) of a merge; see `merged_tensors`."""
    return ((merged.name, merged.tensor) for merged in merged_tensors(recipe, pool, threads=threads))


def merged_tensors(recipe: Recipe, pool: ModelPool, *, threads: int = 1) -> Iterator[MergedTensor]:
    """Yield the merged tensors in the order of their names; at most `threads` are in memory besides the one yielded.

    Raises `UsageError` at once if the recipe cannot be built from the pool, and `CandidateError` where a merged tensor
    comes out infinite or NaN.
    """
    check(recipe, pool.layout)
    check_same_models(recipe, pool)
    return _stream(recipe, pool, threads)


def _stream(recipe: Recipe, pool: ModelPool, threads: int) -> Iterator[MergedTensor]:
    def merge(name: str) -> MergedTensor:
        piece = TensorRecipe.of(recipe, name)
        base = pool.base.tensor(name)
        experts = {label: pool.experts[label].tensor(name) for label in recipe.experts}
        out = torch.empty(base.shape, dtype=piece.dtype)
        return MergedTensor(name, out, merge_into(out, name, piece, base, experts, uniforms))

    if threads <= 1:
        yield from map(merge, pool.layout.tensors)
        return
    names = iter(pool.layout.tensors)
    with ThreadPoolExecutor(threads) as executor:
        ahead: deque[Future[MergedTensor]] = deque(executor.submit(merge, name) for name in islice(names, threads))
        try:
            while ahead:
                merged = ahead.popleft().result()
                for name in islice(names, 1):
                    ahead.append(executor.submit(merge, name))
                yield merged
        finally:
            executor.shutdown(cancel_futures=True)
