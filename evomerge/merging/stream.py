"""The merged tensors of a recipe straight from the checkpoints, a few spans in memory at a time.

This file knows nothing about where the tensors go.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError
from evomerge.merging.fingerprint import combine
from evomerge.merging.mask import RememberedUniforms
from evomerge.merging.match import check_same_models
from evomerge.merging.methods.reductions import spans
from evomerge.merging.settings import check
from evomerge.merging.statistics import PoolStatistics
from evomerge.merging.tensors import TORCH_DTYPES, TensorRecipe, merge_span, plan_tensor
from evomerge.recipes import Recipe

# Elements that a thread holds at a time, of each model.
_SPAN = 1 << 21

#: `(name, first, elements)`: takes a span of a merged tensor.
Sink = Callable[[str, int, torch.Tensor], None]


class MergeStream:
    """A recipe that is ready to be merged from the checkpoints of a pool.

    Args:
        recipe: what to merge.
        pool: from what.
        statistics: of the pool, or of a copy of it in memory, from which the weights are then read; what it remembers
            serves the next stream too. None: its own, of the pool.
        uniforms: where the numbers of masks are kept for the next stream; None: nowhere.

    Raises `UsageError` at once if the recipe cannot be built from the pool.
    """

    def __init__(
        self,
        recipe: Recipe,
        pool: ModelPool,
        *,
        statistics: PoolStatistics | None = None,
        uniforms: RememberedUniforms | None = None,
    ) -> None:
        self._settings = check(recipe, pool.layout)
        check_same_models(recipe, pool)
        self.recipe, self.pool = recipe, pool
        self._statistics = statistics or PoolStatistics(pool, pool.layout.tensors)
        self._uniforms = uniforms

    def merge(self, name: str, sink: Sink) -> int:
        """Merge a tensor span by span into a sink and return its fingerprint.

        Raises `CandidateError` where it comes out infinite or NaN, `UsageError` if it went into the merge like that.
        """
        try:
            return self._merge(name, sink)
        except CandidateError:
            self.pool.check_weights([name])
            raise

    def _merge(self, name: str, sink: Sink) -> int:
        wanted = TensorRecipe.of(self.recipe, self._settings[name])
        planned = plan_tensor(name, wanted, self._statistics.models, self._statistics, self._uniforms)
        total = 0
        for first, last in spans(planned.operands.size, _SPAN):
            out = torch.empty(last - first, dtype=planned.dtype)
            total = combine(total, merge_span(planned, first, last, out))
            sink(name, first, out)
        return total

    def whole(self, name: str) -> tuple[torch.Tensor, int]:
        """Merge a tensor; return it, shaped, and its fingerprint. Raises what `merge` raises."""
        pieces: list[torch.Tensor] = []
        value = self.merge(name, lambda _name, _first, elements: pieces.append(elements))
        flat = torch.cat(pieces) if pieces else torch.empty(0, dtype=TORCH_DTYPES[self.recipe.dtype])
        return flat.view(self.pool.shape(name)), value

    def merge_all(self, names: Iterable[str], sink: Sink, *, threads: int = 1) -> int:
        """Merge several tensors, each on a thread, in no order; return their fingerprint together."""
        largest_first = sorted(names, key=lambda name: -torch.Size(self.pool.shape(name)).numel())
        with ThreadPoolExecutor(threads) as executor:
            try:
                return combine(*executor.map(lambda name: self.merge(name, sink), largest_first))
            except BaseException:
                executor.shutdown(cancel_futures=True)
                raise


def stream(recipe: Recipe, pool: ModelPool) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) of a merge, in the order of the names.

    Raises `UsageError` at once if the recipe cannot be built from the pool, and `CandidateError` where a merged tensor
    comes out infinite or NaN.
    """
    merging = MergeStream(recipe, pool)
    return ((name, merging.whole(name)[0]) for name in pool.layout.tensors)
