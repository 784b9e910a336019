"""Where the weights of base and experts are kept while candidates are built: chosen from what is measured, or told.

    resident   in the memory of the device that merges (on the CPU: in main memory)
    pinned     in page-locked main memory, streamed to the GPU for every candidate
    files      nowhere: read from the checkpoints for every candidate

Each device keeps what it merges, of every model, and chooses for itself. This file knows nothing about recipes or
methods.
"""

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

import torch

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.rows import MemorySource
from evomerge.checkpoints.source import TensorSource, read_all
from evomerge.errors import UsageError
from evomerge.memory import available_memory

Memory = Literal["resident", "pinned", "files"]
MEMORIES: tuple[str, ...] = get_args(Memory)

# The rest is for activations, the key-value cache, and what else runs on the machine.
_SHARE_OF_DEVICE = 0.75
_SHARE_OF_HOST = 0.7


class Residence:
    """The weights that one device merges, in one kind of memory.

    Args:
        pool: the models.
        device: where merges are computed.
        memory: the kind; None: the fastest that fits.
        names: the tensors that this device merges; None: all.

    Attributes:
        memory: the kind.
        on_gpu: whether the weights are in a GPU's memory.
        reason: one line that says why.
        room: the bytes of main memory that may be used beside the weights.
    """

    def __init__(
        self,
        pool: ModelPool,
        device: torch.device,
        memory: Memory | None = None,
        *,
        names: Iterable[str] | None = None,
    ) -> None:
        self.pool = pool
        names = pool.layout.tensors if names is None else tuple(names)
        size = pool_bytes(pool, names)
        host = available_memory()
        self.memory, self.reason = _choose(size, host, device, memory)
        on_host = (device.type == "cpu" and self.memory == "resident") or self.memory == "pinned"
        self.room = max(0, int(_SHARE_OF_HOST * host) - (size if on_host else 0))
        self.on_gpu = device.type != "cpu" and self.memory == "resident"
        self._held: dict[tuple[str, str], MemorySource] = {}
        if self.memory != "files":
            for label in ("", *pool.experts):
                for name in names:
                    whole = read_all(pool.source(label, name))
                    if self.memory == "pinned":
                        whole = whole.pin_memory()
                    elif device.type != "cpu":
                        whole = whole.to(device)
                    self._held[label, name] = MemorySource(whole)

    def source(self, label: str, name: str) -> TensorSource:
        """Return a tensor of the base ("") or an expert, on the device if it is resident there, else on the CPU."""
        return self._held.get((label, name)) or self.pool.source(label, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.pool.shape(name)


class Residences:
    """The weights of a pool for a model that may be spread over devices: one residence a device.

    As a source of tensors it reads from main memory or files, on whichever device a tensor is merged.

    Args:
        pool: the models.
        devices: of every merged tensor, where it is merged.
        memory: the kind for all; None: each device chooses the fastest that fits. What a GPU is told to keep pinned is
            resident for the tensors that the CPU merges: main memory both.

    Attributes:
        parts: device -> its residence.
        reason: one line that says where everything is, and why.
        room: the bytes of main memory that may be used beside the weights.
    """

    def __init__(self, pool: ModelPool, devices: Mapping[str, torch.device], memory: Memory | None = None) -> None:
        self.parts: dict[torch.device, Residence] = {}
        self._of: dict[str, Residence] = {}
        gpus = any(device.type == "cuda" for device in devices.values())
        # one after the other: each measures the memory that those before it have left
        for device in dict.fromkeys(devices.values()):
            names = [name for name in devices if devices[name] == device]
            kind: Memory | None = "resident" if memory == "pinned" and gpus and device.type != "cuda" else memory
            self.parts[device] = Residence(pool, device, kind, names=names)
            self._of |= dict.fromkeys(names, self.parts[device])
        self.reason = "; ".join(part.reason for part in self.parts.values())
        self.room = min(part.room for part in self.parts.values())

    def source(self, label: str, name: str) -> TensorSource:
        """Return a tensor of the base ("") or an expert, on the CPU."""
        part = self._of[name]
        return part.pool.source(label, name) if part.on_gpu else part.source(label, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._of[name].shape(name)


def pool_bytes(pool: ModelPool, names: Iterable[str]) -> int:
    """Return the bytes of some tensors, of base and experts."""
    total = 0
    names = tuple(names)
    for label in ("", *pool.experts):
        for name in names:
            source = pool.source(label, name)
            total += torch.Size(source.shape).numel() * source.dtype.itemsize
    return total


def _choose(size: int, host: int, device: torch.device, memory: Memory | None) -> tuple[Memory, str]:
    text = f"{size / 1e9:.2f} GB of weights"
    if memory is not None:
        if memory not in MEMORIES:
            raise UsageError(f"memory {memory!r} is none of {', '.join(MEMORIES)}")
        if memory == "pinned" and device.type != "cuda":
            raise UsageError("memory 'pinned' is for a GPU; write resident or files")
        return memory, f"{text} {_WHERE[memory]}, as told"
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
        if size <= _SHARE_OF_DEVICE * free:
            return "resident", f"{text} resident on {device}, {free / 1e9:.1f} GB were free"
        if size <= _SHARE_OF_HOST * host:
            return "pinned", f"{text} in pinned memory: {device} has {free / 1e9:.1f} GB free"
    elif size <= _SHARE_OF_HOST * host:
        return "resident", f"{text} resident in memory, {host / 1e9:.1f} GB were free"
    return "files", f"{text} read from their files for every candidate: {host / 1e9:.1f} GB of memory are free"


_WHERE = {"resident": "resident", "pinned": "in pinned memory", "files": "read from their files for every candidate"}
