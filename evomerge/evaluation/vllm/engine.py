"""The merge engine of a vLLM model: sends recipes to the workers, where they are merged and loaded.

It does for a model in vLLM what `merging.MergeEngine` does for one in this process. It knows nothing about prompts or
scores.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError, UsageError, WorkError
from evomerge.merging.engine import AppliedMerge
from evomerge.merging.match import check_same_models
from evomerge.merging.settings import clash, resolve
from evomerge.recipes import Recipe

#: `(method, arguments) -> the result of each worker`: how the workers are called.
Call = Callable[[str, Sequence[Any]], list[Any]]


@dataclass(frozen=True)
class WorkersResidence:
    """Where the weights of base and experts are kept: one line."""

    reason: str


class VllmEngine:
    """Writes merges into the model that vLLM serves.

    Args:
        pool: the base and its experts.
        call: calls a method of every worker.
        dtype: the model's.
        on_change: called when weights have been written.
        memory: where each worker keeps the pool's weights (`resident` in main memory, or `files`); None: it chooses.
        threads: how many threads merge in each worker; None: one a processor that torch may use.

    Attributes:
        residence: where the weights are, and why.
    """

    def __init__(
        self,
        pool: ModelPool,
        call: Call,
        *,
        dtype: str,
        on_change: Callable[[], None],
        memory: str | None = None,
        threads: int | None = None,
    ) -> None:
        self.pool = pool
        self._call, self._dtype, self._on_change = call, dtype, on_change
        opened = _checked(call("evomerge_open", (pool.references, pool.vocabulary, memory, threads)))
        workers = "vLLM's worker" if len(opened) == 1 else f"each of vLLM's {len(opened)} workers"
        self.residence = WorkersResidence(f"{workers}: {opened[0]['reason']}")
        self._applied: tuple[str, str] | None = None
        self._broken = False

    def apply(self, recipe: Recipe) -> AppliedMerge:
        """Write the merge that a recipe describes into the model.

        All tensors are built, unless the recipe is the one that was applied last. Raises `UsageError` if the recipe
        cannot be built from these models, or the model's dtype cannot hold the recipe's exactly; `CandidateError` if
        its values cannot go together, or if merged weights come out infinite or NaN. After any failure the model's
        weights are undefined until the next merge.
        """
        start = time.perf_counter()
        values = resolve(recipe, self.pool.layout)
        check_same_models(recipe, self.pool)
        if self._dtype not in (recipe.dtype, "float32"):
            raise UsageError(
                f"recipe: dtype {recipe.dtype} does not fit into the loaded model, which is {self._dtype}; "
                f"load the model in {recipe.dtype} or float32"
            )
        reason = clash(recipe, values)
        if reason:
            raise CandidateError(reason)
        if self._applied is not None and self._applied[0] == recipe.hash:
            return AppliedMerge(self._applied[1], 0, time.perf_counter() - start)
        if self._broken:
            raise WorkError("vLLM was interrupted while weights were loaded; start it anew")
        self.forget()
        self._broken = True
        results = self._call("evomerge_apply", (recipe.to_dict(),))
        self._broken = False
        self._on_change()
        fingerprints = {result["fingerprint"] for result in _checked(results)}
        if len(fingerprints) > 1:
            raise WorkError("vLLM's workers merged different weights; do they all read the same files?")
        self._applied = recipe.hash, fingerprints.pop()
        return AppliedMerge(self._applied[1], len(values), time.perf_counter() - start)

    def forget(self) -> None:
        """Have the next `apply` build the merge: for when something else wrote the model's weights."""
        self._applied = None


def _checked(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the results of all workers; raise the error that one of them had."""
    for result in results:
        if "error" in result:
            kind, text = result["error"]
            known = {"CandidateError": CandidateError, "UsageError": UsageError, "WorkError": WorkError}
            raise known[kind](text) if kind in known else WorkError(f"vLLM's worker: {kind}: {text}")
    return results
