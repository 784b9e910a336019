"""A LoRA adapter on a base: a PEFT directory (adapter_config.json, adapter_model.safetensors) read as a full model.

What the adapter does not touch is the base's own tensor; what it trained whole (modules_to_save, biases, resized
embeddings) is taken from its file; the rest is the base's tensor plus a product (see `lora.py`). The files are as
distrusted as a model's. Which base the adapter was trained on cannot be seen from its weights and is not checked here.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import torch

from evomerge.checkpoints.adapter_config import AdapterConfig
from evomerge.checkpoints.adapter_file import AdapterFile
from evomerge.checkpoints.checkpoint import ADAPTER_CONFIG, Checkpoint, file_sha256, read_json
from evomerge.checkpoints.source import TensorSource, read_all
from evomerge.checkpoints.tied import tied_heads
from evomerge.errors import UsageError

ADAPTER_WEIGHTS = "adapter_model.safetensors"


class Adapter:
    """A readable LoRA expert; made by `open`.

    Attributes:
        path: the adapter's directory.
        config: its base's config.json.
        names: the names of its base's tensors, sorted, without a head that is tied to the embeddings.
        changed: those of them that the adapter changes, sorted.
        files: the files that decide its weights.
    """

    files = (ADAPTER_CONFIG, ADAPTER_WEIGHTS)

    def __init__(self, path: Path, base: Checkpoint, changed: Mapping[str, TensorSource]) -> None:
        self.path = path
        self.config = base.config
        copies = tied_heads(base)
        self.names = tuple(name for name in base.names if name not in copies)
        self.changed = tuple(sorted(changed))
        self._base = base
        self._changes = changed

    @classmethod
    def open(cls, path: str | Path, base: Checkpoint) -> "Adapter":
        """Open an adapter directory on top of a base, reading the adapter's matrices.

        Raises `UsageError`, naming the file, if one is missing or damaged, if the adapter changes what the base does
        not have, or if what it does is no change of weights (see `adapter_config.py`).
        """
        path = Path(path)
        config = AdapterConfig.parse(read_json(path / ADAPTER_CONFIG), path)
        if not (path / ADAPTER_WEIGHTS).is_file():
            raise UsageError(f"adapter {path}: has no {ADAPTER_WEIGHTS}; save it again with peft (save_pretrained)")
        return cls(path, base, AdapterFile(path / ADAPTER_WEIGHTS, base, config).changes())

    @cached_property
    def sha256(self) -> dict[str, str]:
        """File name -> SHA-256 of its bytes, for each of `files`."""
        return {name: file_sha256(self.path / name) for name in self.files}

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        return self.source(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor: float32 where a product is added."""
        return self.source(name).dtype

    def tensor(self, name: str) -> torch.Tensor:
        """Return all of a tensor, the base's own where the adapter does not change it: do not write into it."""
        return read_all(self._changes[name]) if name in self._changes else self._base.tensor(name)

    def source(self, name: str) -> TensorSource:
        """Return a tensor as spans that are made when asked for."""
        return self._changes[name] if name in self._changes else self._base.source(name)
