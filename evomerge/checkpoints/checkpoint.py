"""One model on disk: a directory with config.json and safetensors weights, whole or in shards.

Tensors are read only when asked for: whole and memory-mapped, or span by span. Everything in the directory is
distrusted: headers are checked against the files, shard names must stay inside the directory, pickles are never
opened. Entries that are no weights (see `buffers.py`) are left out. This file knows nothing about how models relate to
each other.
"""

import hashlib
import json
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from evomerge.checkpoints.buffers import is_buffer
from evomerge.checkpoints.header import Entry, read_header, refused_type
from evomerge.checkpoints.source import FileSource, TensorSource, WeightFile
from evomerge.errors import UsageError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


class Checkpoint:
    """A readable model directory; made by `open`.

    Attributes:
        path: the directory.
        config: its config.json.
        names: the names of its tensors, sorted.
    """

    def __init__(self, path: Path, config: dict[str, Any], entries: dict[str, tuple[str, Entry]]) -> None:
        self.path = path
        self.config = config
        self.names: tuple[str, ...] = tuple(sorted(entries))
        self._entries = entries
        self._handles: dict[str, Any] = {}
        self._weight_files = {file: WeightFile(path / file) for file, _ in entries.values()}

    @classmethod
    def open(cls, path: str | Path) -> "Checkpoint":
        """Open a model directory, reading its headers only.

        Raises `UsageError`, naming the file, if the directory or its config is missing, if it holds no safetensors
        weights, if a file is truncated or corrupt, or if its index disagrees with its shards.
        """
        path = Path(path)
        if not path.is_dir():
            raise UsageError(f"model {path}: no such directory")
        config_file = path / "config.json"
        if is_adapter(path):
            raise UsageError(f"model {path}: is a LoRA adapter, no model of its own; only an expert can be one")
        if not config_file.is_file():
            raise UsageError(f"model {path}: has no config.json; give the directory of a transformers model")
        config = read_json(config_file)
        if config.get("quantization_config"):
            raise UsageError(f"model {path}: is quantised; dequantise it or take the original weights")
        if (path / WEIGHTS).is_file():
            entries = {name: (WEIGHTS, entry) for name, entry in read_header(path / WEIGHTS).items()}
        elif (path / INDEX).is_file():
            entries = _read_shards(path)
        else:
            raise UsageError(f"model {path}: {_why_no_weights(path)}")
        entries = {name: place for name, place in entries.items() if not is_buffer(name, place[1])}
        for name, (file, entry) in entries.items():
            if not entry.dtype.is_floating_point:
                raise refused_type(path / file, name, "U8")
        if not entries:
            raise UsageError(f"model {path}: its weights hold no tensor")
        return cls(path, config, entries)

    @cached_property
    def files(self) -> tuple[str, ...]:
        """The names of the weight files, sorted."""
        return tuple(sorted({file for file, _ in self._entries.values()}))

    @cached_property
    def sha256(self) -> dict[str, str]:
        """Weight file name -> SHA-256 of its bytes; reads every byte."""
        return {name: file_sha256(self.path / name) for name in self.files}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self._entries[name][1].shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        return self._entries[name][1].dtype

    def tensor(self, name: str) -> torch.Tensor:
        """Return a tensor in its own dtype, memory-mapped: do not write into it."""
        file, _ = self._entries[name]
        if file not in self._handles:
            try:
                self._handles[file] = safe_open(self.path / file, framework="pt")
            except Exception as error:  # safetensors raises its own class and OSError
                raise UsageError(f"{self.path / file}: cannot be read: {error}") from None
        tensor: torch.Tensor = self._handles[file].get_tensor(name)
        return tensor

    def source(self, name: str) -> TensorSource:
        """Return a tensor as spans that are read when asked for."""
        file, entry = self._entries[name]
        return FileSource(self._weight_files[file], entry)

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(math.prod(entry.shape) for _, entry in self._entries.values())


def is_adapter(path: Path) -> bool:
    """Say whether a directory holds a PEFT adapter, and no model."""
    return (path / ADAPTER_CONFIG).is_file() and not any((path / name).is_file() for name in (WEIGHTS, INDEX))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path) -> dict[str, Any]:
    """Return the mapping that a JSON file holds; `UsageError` naming the file if it cannot."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: cannot be read as JSON: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be a JSON mapping")
    return data


def _read_shards(path: Path) -> dict[str, tuple[str, Entry]]:
    """Read the headers of the shards that the index names, and hold the index against them."""
    where = path / INDEX
    weight_map = read_json(where).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(shard, str) for shard in weight_map.values()):
        raise UsageError(f"{where}: has no weight_map of tensor names to file names; copy or download it again")
    entries: dict[str, tuple[str, Entry]] = {}
    shards = sorted(set(weight_map.values()))
    for shard in shards:
        if "/" in shard or "\\" in shard or ".." in shard or not shard.endswith(".safetensors"):
            raise UsageError(f"{where}: {shard!r} is not the name of a safetensors file in the same directory")
    for shard in shards:
        if not (path / shard).is_file():
            raise UsageError(f"{where}: names shard {shard!r}, which is missing; copy or download it")
        for name, entry in read_header(path / shard).items():
            if weight_map.get(name) != shard:
                raise UsageError(
                    f"{where}: shard {shard!r} holds tensor {name!r}, which the index does not place there"
                )
            entries[name] = (shard, entry)
    for name, shard in weight_map.items():
        if name not in entries:
            raise UsageError(
                f"{where}: tensor {name!r} is not in its shard {shard!r}; copy or download the model again"
            )
    return entries


def _why_no_weights(path: Path) -> str:
    for pattern in _PICKLES:
        for file in sorted(path.glob(pattern)):
            return (
                f"holds pickled weights ({file.name}), which can run code when opened; "
                "convert them to safetensors (model.save_pretrained does)"
            )
    return f"has no weights; expected {WEIGHTS} or {INDEX}"
