"""The resident engine: builds recipe after recipe in the weights of one live model, in place.

Only tensors for which a recipe differs from the one before are built. A model may be spread over devices: what lies on
a GPU is merged there, all else (in main memory, or in files mapped into it) on the CPU, and the bits are the same
wherever it is. This file knows nothing about prompts or scores, and about transformers only that a model has named
parameters and buffers.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import torch

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.live import live_tensors
from evomerge.errors import CandidateError, UsageError
from evomerge.merging.fingerprint import combine, to_text
from evomerge.merging.mask import RememberedUniforms
from evomerge.merging.match import check_same_models
from evomerge.merging.on_cpu import CpuMerger
from evomerge.merging.residence import Memory, Residence, Residences
from evomerge.merging.settings import clash, resolve
from evomerge.merging.statistics import PoolStatistics
from evomerge.merging.tensors import TORCH_DTYPES, PlannedTensor, TensorRecipe, plan_tensor
from evomerge.recipes import Recipe

# Seconds a tensor beyond which planning is worth threads.
_SLOW = 1e-3


@dataclass(frozen=True)
class AppliedMerge:
    """What `MergeEngine.apply` did.

    Attributes:
        fingerprint: of all merged tensors, in the recipe's dtype.
        rebuilt: how many tensors had to be built.
        seconds: how long it took.
    """

    fingerprint: str
    rebuilt: int
    seconds: float


class Merger(Protocol):
    """Merges tensors on one device."""

    def merge(self, planned: Iterable[PlannedTensor], targets: Mapping[str, torch.Tensor]) -> dict[str, int]:
        """Write the merged tensors into `targets`, flat; return their fingerprints by name."""
        ...


@dataclass
class _Part:
    """The tensors of a model that are merged on one device."""

    device: torch.device
    names: frozenset[str]
    merger: Merger
    planning_is_slow: bool = True


class MergeEngine:
    """Writes merges into a live model.

    Args:
        pool: the base and its experts.
        model: a model of the same architecture, on the CPU, a GPU, or spread over several and main memory and disk by
            accelerate (a device map). Nothing else may write its weights, unless `forget` is called afterwards.
        threads: how many threads merge on the CPU; None for one a processor torch may use. The result does not depend
            on it.
        on_change: called when weights have been written (a back end's `weights_changed`).
        memory: where the pool's weights are kept (see `residence`); None: the engine chooses.
        cache_bytes: how much main memory may go into tables that save passes over the weights; None: the engine
            chooses.

    Attributes:
        residence: where the weights are, and why.

    Raises `UsageError` if the model's tensors are not those of the pool.
    """

    def __init__(
        self,
        pool: ModelPool,
        model: torch.nn.Module,
        *,
        threads: int | None = None,
        on_change: Callable[[], None] | None = None,
        memory: Memory | None = None,
        cache_bytes: int | None = None,
    ) -> None:
        self.pool = pool
        self._threads = threads or torch.get_num_threads()
        self._on_change = on_change
        self._targets = _targets(pool, model)
        devices = {name: _merged_on(target.device) for name, target in self._targets.items()}
        self.residence = Residences(pool, devices, memory)
        room = self.residence.room if cache_bytes is None else cache_bytes
        self._statistics = PoolStatistics(self.residence, pool.layout.tensors, cache_bytes=room // 2)
        self._uniforms = RememberedUniforms(room // 2)
        self._parts = [
            _Part(device, frozenset(n for n in devices if devices[n] == device), self._merger(device, residence))
            for device, residence in self.residence.parts.items()
        ]
        self._built: dict[str, tuple[TensorRecipe, int]] = {}

    def apply(self, recipe: Recipe) -> AppliedMerge:
        """Write the merge that a recipe describes into the model.

        Raises `UsageError` if the recipe cannot be built from these models, or the model's dtype cannot hold the
        recipe's exactly; `CandidateError` if its values cannot go together (nothing is written in these cases), or if
        merged weights come out infinite or NaN. After any failure in mid-work the model's weights are undefined, and
        the next call builds every tensor.
        """
        start = time.perf_counter()
        values = resolve(recipe, self.pool.layout)
        check_same_models(recipe, self.pool)
        self._refuse_dtype(recipe)
        reason = clash(recipe, values)
        if reason:
            raise CandidateError(reason)
        wanted = {name: TensorRecipe.of(recipe, at) for name, at in values.items()}
        stale = [n for n, piece in wanted.items() if n not in self._built or self._built[n][0] != piece]
        if stale:
            try:
                self._build({name: wanted[name] for name in stale})
            except BaseException:
                self.forget()
                raise
            finally:
                if self._on_change is not None:
                    self._on_change()
        total = combine(*(value for _, value in self._built.values()))
        return AppliedMerge(to_text(total), len(stale), time.perf_counter() - start)

    def forget(self) -> None:
        """Have the next `apply` build every tensor: for when something else wrote the model's weights."""
        self._built.clear()

    def _refuse_dtype(self, recipe: Recipe) -> None:
        dtype = TORCH_DTYPES[recipe.dtype]
        for name, target in self._targets.items():
            if target.dtype not in (dtype, torch.float32):
                raise UsageError(
                    f"recipe: dtype {recipe.dtype} does not fit into the loaded model, whose {name!r} is "
                    f"{str(target.dtype).removeprefix('torch.')}; load the model in {recipe.dtype} or float32"
                )

    def _merger(self, device: torch.device, residence: Residence) -> Merger:
        if device.type != "cuda":
            return CpuMerger(self._threads)
        from evomerge.merging.on_gpu import GpuMerger  # triton comes with builds of torch for GPUs

        return GpuMerger(residence, device, threads=self._threads)

    def _build(self, pieces: dict[str, TensorRecipe]) -> None:
        """Build tensors: the parts of the model side by side, so that no device waits for another."""
        # The largest first, so that no thread is left alone with one at the end.
        names = sorted(pieces, key=lambda name: -self._targets[name].numel())
        work = [(part, own) for part in self._parts if (own := [name for name in names if name in part.names])]
        with ThreadPoolExecutor(self._threads) as planners, ThreadPoolExecutor(len(work)) as devices:

            def build(one: tuple[_Part, list[str]]) -> dict[str, int]:
                return self._build_part(*one, pieces, planners)

            try:
                values = list(devices.map(build, work) if len(work) > 1 else map(build, work))
            except BaseException:
                planners.shutdown(cancel_futures=True)
                raise
        self._built.update({name: (pieces[name], part[name]) for part in values for name in part})

    @torch.no_grad()
    def _build_part(
        self, part: _Part, names: Sequence[str], pieces: Mapping[str, TensorRecipe], executor: ThreadPoolExecutor
    ) -> dict[str, int]:
        """Build the tensors of one device; return their fingerprints."""
        remembered = self._uniforms if part.device.type != "cuda" else None  # GPUs draw masks anew

        def plan(name: str) -> PlannedTensor:
            return plan_tensor(name, pieces[name], self.residence, self._statistics, remembered)

        buffers = {name: self._buffer(name, pieces[name].dtype, part.device) for name in names}
        values = part.merger.merge(_planned(part, plan, names, executor), buffers)
        for name, buffer in buffers.items():
            if buffer.data_ptr() != self._targets[name].data_ptr():
                self._targets[name].copy_(buffer.view(self._targets[name].shape))
        return values

    def _buffer(self, name: str, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
        """Return what to merge into, flat: the model's own memory where that lies in one piece on the right device."""
        target = self._targets[name]
        if target.is_contiguous() and target.device == device:
            return target.detach().view(-1)
        return torch.empty(target.numel(), dtype=dtype, device=device)


def _merged_on(device: torch.device) -> torch.device:
    """Return where the tensors of a device are merged; other devices than GPUs of CUDA are written to by the CPU."""
    return device if device.type == "cuda" else torch.device("cpu")


def _planned(
    part: _Part, plan: Callable[[str], PlannedTensor], names: Sequence[str], executor: ThreadPoolExecutor
) -> Iterator[PlannedTensor]:
    """Plan tensors as they are asked for: on the threads where that takes long, as when statistics are computed.

    Where it does not, threads would only take the interpreter's lock from one another (and from what feeds a GPU).
    """
    seconds: list[float] = []

    def timed(name: str) -> PlannedTensor:
        start = time.thread_time()
        planned = plan(name)
        seconds.append(time.thread_time() - start)
        return planned

    yield from executor.map(timed, names) if part.planning_is_slow else map(timed, names)
    part.planning_is_slow = sum(seconds) > _SLOW * len(names)


def _targets(pool: ModelPool, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the model's own tensor for each name of the pool, and refuse a model that does not match."""
    live = live_tensors(model)
    targets: dict[str, torch.Tensor] = {}
    owners: dict[int, str] = {}
    for name in pool.layout.tensors:
        if name not in live:
            raise UsageError(
                f"the loaded model has no tensor {name!r}, which {pool.base.path} holds; load it with the class that "
                "its config names"
            )
        if tuple(live[name].shape) != pool.shape(name):
            raise UsageError(
                f"tensor {name!r} of the loaded model has shape {list(live[name].shape)}, {pool.base.path} has "
                f"{list(pool.shape(name))}; load the model from that directory"
            )
        owner = owners.setdefault(live[name].data_ptr(), name)
        if owner != name:
            raise UsageError(
                f"tensors {owner!r} and {name!r} are one in the loaded model but two in {pool.base.path}; "
                "set tie_word_embeddings in its config.json to what is true"
            )
        targets[name] = live[name]
    for name, _ in _unowned(live, owners):
        raise UsageError(
            f"the loaded model has tensor {name!r}, which {pool.base.path} does not hold; it cannot be merged"
        )
    return targets


def _unowned(live: dict[str, torch.Tensor], owners: dict[int, str]) -> Iterable[tuple[str, torch.Tensor]]:
    """The weights of a model (its counters and masks are none) that share no storage with those named in `owners`."""
    weights = ((name, tensor) for name, tensor in live.items() if tensor.is_floating_point())
    return ((name, tensor) for name, tensor in weights if tensor.data_ptr() not in owners)
