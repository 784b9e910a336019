"""The memory that a search needs: reckoned, then corrected by what was measured, and held against what there is.

This file knows nothing about seconds, nor how the bytes of each part are reckoned (`memory.py`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import torch

from evomerge.errors import UsageError
from evomerge.memory import available_memory
from evomerge.merging.tensors import TORCH_DTYPES
from evomerge.search.config import SearchConfig
from evomerge.search.plan import memory
from evomerge.search.plan.measured import Measured
from evomerge.search.plan.shape import Shape
from evomerge.search.plan.usage import resident_memory
from evomerge.search.plan.verdict import Finding, compare
from evomerge.search.scorer import pick_device


@dataclass(frozen=True)
class Limits:
    """What there is to be used: bytes of main memory and of a GPU's; None: what this machine has."""

    host: int | None = None
    device: int | None = None


THIS_MACHINE = Limits()


@dataclass(frozen=True)
class Need:
    """Memory with the weights of base and experts resident, and streamed from their files, in bytes.

    Attributes:
        resident, streamed: what it is for, by reckoning.
        peak: the most at a time of the kind that will be chosen; from the measurement where there is one.
        chosen: resident or streamed.
        measured: whether the peak was measured.
    """

    resident: memory.Parts
    streamed: memory.Parts
    peak: int
    chosen: str
    measured: bool


class Needs:
    """Memory by reckoning, and what the measurement changes about it.

    Args:
        config: the configuration.
        shape: of the models.
        methods: merge methods that will be built.
        batches: task -> its largest batch.
        limits: memory to plan for.
        gpu: the GPU that the search would score on; None: the CPU.
        workers: how many share this machine's main memory, each with models of its own.
    """

    def __init__(
        self,
        config: SearchConfig,
        shape: Shape,
        *,
        methods: Iterable[str],
        batches: Mapping[str, memory.Batch],
        limits: Limits,
        gpu: str | None,
        workers: int = 1,
    ) -> None:
        self.config, self.shape, self.batches, self.gpu, self.workers = config, shape, batches, gpu, workers
        self.methods = set(methods)
        self.itemsize = TORCH_DTYPES[config.evaluation.dtype].itemsize
        self.program = resident_memory()
        self.free_host = available_memory() + self.program if limits.host is None else limits.host
        self.free_each = (self.free_host - (workers > 1) * self.program) // workers  # the search beside its workers
        self.free_device = limits.device
        if gpu and limits.device is None:
            self.free_device = torch.cuda.mem_get_info(torch.device(gpu))[0]

    def host(self) -> Need:
        """Main memory."""
        about = {"program": self.program, "there_is": self.free_each, "itemsize": self.itemsize}
        if self.gpu:
            return self._need(lambda resident: memory.beside_a_gpu(self.shape, **about, resident=resident))
        return self._need(
            lambda resident: memory.on_host(
                self.shape,
                **about,
                experts=len(self.config.models.experts),
                methods=self.methods,
                batches=self.batches.values(),
                resident=resident,
            )
        )

    def device(self) -> Need | None:
        """A GPU's memory; None without one."""
        if not self.gpu:
            return None
        return self._need(
            lambda resident: memory.on_device(
                self.shape,
                there_is=self.free_device,
                itemsize=self.itemsize,
                models=1 + len(self.config.models.experts),
                batches=self.batches.values(),
                resident=resident,
            )
        )

    def corrected(self, host: Need, device: Need | None, found: Measured) -> tuple[Need, Need | None]:
        """Return the needs with what was measured in the place of what was reckoned.

        The batches of the measurement may have been smaller than the search's: what these take more is reckoned.
        """
        kind = "cuda" if self.gpu else "cpu"
        need, there_is = (host, self.free_each) if device is None else (device, self.free_device)
        parts = need.resident if need.chosen == "resident" else need.streamed
        left = None if there_is is None else there_is - sum(parts.lasting.values())
        large, small = 0, 0
        for task, batch in self.batches.items():
            rows = memory.rows_of(found.scoring[task][-1].items, self.config.evaluation.batch_size, kind)
            large = max(large, self._scoring(batch, kind, left))
            small = max(small, self._scoring(replace(batch, rows=rows), kind, left))
        more = max(0, large - small)
        if device is None:
            peak = max(found.memory.building, found.memory.scoring + more)
            return replace(host, peak=peak, measured=True), None
        peak = max(found.memory.building, found.memory.scoring)
        return replace(host, peak=peak, measured=True), replace(device, peak=found.memory.device + more, measured=True)

    def findings(self, host: Need, device: Need | None) -> list[Finding]:
        """Hold the needs against what there is."""
        hint = "write workers.memory=files, fewer items" + (", or fewer workers" if self.workers > 1 else "")
        whole = host.peak if self.workers == 1 else self.program + self.workers * host.peak  # the search, and workers
        found = [compare("main memory", whole, self.free_host, hint=hint)]
        if device is not None:
            hint = "spread the model (evaluation.device_map=auto)"
            found.append(compare("GPU memory", device.peak, self.free_device, hint=hint))
        return found

    def _scoring(self, batch: memory.Batch, kind: str, left: int | None) -> int:
        fitted = memory.fitted(self.shape, batch, self.itemsize, kind, left)
        return memory.scoring(self.shape, fitted, self.itemsize, kind)

    def _need(self, parts: Callable[[bool], memory.Parts]) -> Need:
        resident, streamed = parts(True), parts(False)
        chosen = self._chosen()
        return Need(resident, streamed, (resident if chosen == "resident" else streamed).peak, chosen, False)

    def _chosen(self) -> str:
        told = self.config.workers.memory
        if told != "auto":
            return "resident" if told == "resident" else "streamed"
        room = memory.SHARE_OF_HOST * self.free_each
        if self.gpu:
            room = memory.SHARE_OF_DEVICE * ((self.free_device or 0) - self.shape.parameters * self.itemsize)
        return "resident" if self.shape.weight_bytes <= room else "streamed"


def gpu_of(config: SearchConfig, limits: Limits) -> str | None:
    """Return the GPU that the search would score on; None: the CPU. A GPU's memory that was named stands for one."""
    wanted = config.evaluation.device
    if limits.device is not None:
        return "cuda" if wanted in ("auto", "cpu") else wanted
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"evaluation.device={wanted}: no GPU can be used here; name its memory with --gpu-memory")
    device = pick_device(wanted)
    return device if device.startswith("cuda") else None
