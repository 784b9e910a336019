"""The part of evomerge that lives inside vLLM's workers: it merges there, and hands the tensors to vLLM's own loader.

vLLM mixes the class `EvomergeWorker` into its worker class, in whatever process that lives, so this file imports
nothing heavy before it is asked to work. Only recipes go in and fingerprints come out, as plain data. It knows nothing
about prompts or scores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import Future

    import torch

    from evomerge.merging.stream import MergeStream


class EvomergeWorker:
    """The methods that vLLM's workers get; `self` is a worker of vLLM's, which has a `reload_weights`."""

    def evomerge_open(
        self, references: Mapping[str, str], vocabulary: str, memory: str | None, threads: int | None
    ) -> dict[str, Any]:
        """Open the pool that recipes are merged from; return {"reason": where its weights are kept, and why}.

        Args:
            references: label -> reference, the base's label is "".
            vocabulary: as in `ModelPool.open`.
            memory: where to keep the weights: "resident" (main memory), "files", or None to choose.
            threads: how many threads merge; None: one a processor that torch may use.
        """
        from evomerge.errors import EvomergeError

        try:
            self._evomerge = Merger(references, vocabulary, memory, threads)
        except EvomergeError as error:
            return {"error": _as_data(error)}
        return {"reason": self._evomerge.residence.reason}

    def evomerge_apply(self, recipe: Mapping[str, Any]) -> dict[str, Any]:
        """Merge a recipe and load it into vLLM's model; return {"fingerprint": ...} or {"error": [kind, text]}.

        Every rank of a tensor-parallel model merges whole tensors; vLLM's loader takes each rank's shard of them.
        """
        from evomerge.errors import EvomergeError

        try:
            load = self._evomerge.load(recipe)
        except EvomergeError as error:
            return {"error": _as_data(error)}
        self.reload_weights(weights_iterator=load)  # type: ignore[attr-defined]
        pack_tied_heads(self.get_model())  # type: ignore[attr-defined]
        return {"fingerprint": load.fingerprint} if load.failure is None else {"error": _as_data(load.failure)}


def _as_data(error: Exception) -> list[str]:
    return [type(error).__name__, str(error)]


def pack_tied_heads(model: torch.nn.Module) -> None:
    """Have vLLM pack the weights that several of its layers share once more, as it does on a CPU.

    A head that is the embeddings has no tensor of its own in a checkpoint, so that vLLM packs it when it starts and
    leaves it as it was when weights are loaded anew.
    """
    sharing: dict[int, list[Any]] = {}
    for layer in model.modules():
        weight = getattr(layer, "weight", None)
        if hasattr(layer, "cpu_linear") and weight is not None and weight.numel():
            sharing.setdefault(weight.data_ptr(), []).append(layer)
    for layers in sharing.values():
        if len(layers) > 1:
            for layer in layers:
                layer.quant_method.process_weights_after_loading(layer)


class Merger:
    """A pool, with what its merges have in common.

    Attributes:
        residence: where the pool's weights are kept.
    """

    def __init__(self, references: Mapping[str, str], vocabulary: str, memory: str | None, threads: int | None) -> None:
        import torch

        from evomerge.checkpoints import ModelPool
        from evomerge.merging.mask import RememberedUniforms
        from evomerge.merging.residence import Residence
        from evomerge.merging.statistics import PoolStatistics

        experts = {label: reference for label, reference in references.items() if label}
        # whoever asks has opened the same pool, and its weights were checked then
        self._pool = ModelPool.open(references[""], experts, vocabulary=vocabulary, check_weights=False)
        self.residence = Residence(self._pool, torch.device("cpu"), memory)  # type: ignore[arg-type]
        room = self.residence.room
        self._statistics = PoolStatistics(self.residence, self._pool.layout.tensors, cache_bytes=room // 2)
        self._uniforms = RememberedUniforms(room // 2)
        self._threads = threads or torch.get_num_threads()

    def load(self, recipe: Mapping[str, Any]) -> Load:
        """Return the merge that a recipe describes, ready to be iterated over."""
        from evomerge.merging.stream import MergeStream
        from evomerge.recipes import Recipe

        merging = MergeStream(
            Recipe.from_dict(recipe), self._pool, statistics=self._statistics, uniforms=self._uniforms
        )
        return Load(merging, threads=self._threads)


class Load(Iterable[tuple[str, "torch.Tensor"]]):
    """All tensors of a merge, to be iterated over once, as many merged ahead as there are threads.

    Where the merge fails in the middle, the rest is filled up with zeros: a loader of vLLM's that is given half a model
    is left in a state that it does not leave again.

    Attributes:
        fingerprint: of all tensors, as they are recorded; valid at the end.
        failure: why the merge failed, if it did.
    """

    def __init__(self, merging: MergeStream, *, threads: int) -> None:
        self._merging, self._threads = merging, threads
        self.fingerprint = ""
        self.failure: Exception | None = None

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Yield (name, tensor) in the order of the names."""
        from concurrent.futures import ThreadPoolExecutor

        import torch

        from evomerge.merging.fingerprint import combine, to_text

        total = 0
        with ThreadPoolExecutor(self._threads) as executor:
            pending: deque[tuple[str, Future[tuple[torch.Tensor, int]] | None]] = deque()
            waiting = iter(self._merging.pool.layout.tensors)
            while True:
                while len(pending) <= self._threads and (name := next(waiting, None)) is not None:
                    going_on = self.failure is None
                    pending.append((name, executor.submit(self._merging.whole, name) if going_on else None))
                if not pending:
                    break
                name, future = pending.popleft()
                tensor = torch.zeros(0)
                if future is not None and self.failure is None:
                    try:
                        tensor, value = future.result()
                        total = combine(total, value)
                    except Exception as error:
                        self.failure = error
                yield name, tensor if self.failure is None else torch.zeros(self._merging.pool.shape(name))
        self.fingerprint = to_text(total)
