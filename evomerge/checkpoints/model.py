"""What every readable model offers, whether its weights lie in files as they are or are made from an adapter's."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from evomerge.checkpoints.source import TensorSource


class Model(Protocol):
    """A readable model: `Checkpoint` or `Adapter`."""

    @property
    def path(self) -> Path:
        """The directory it was opened from."""
        ...

    @property
    def config(self) -> dict[str, Any]:
        """Its config.json; an adapter has its base's."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its tensors, sorted."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its weight files, sorted."""
        ...

    @property
    def sha256(self) -> Mapping[str, str]:
        """Weight file name -> SHA-256 of its bytes; reads every byte."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor."""
        ...

    def dtype(self, name: str) -> torch.dtype:
        """Return the dtype of a tensor."""
        ...

    def tensor(self, name: str) -> torch.Tensor:
        """Return all of a tensor: do not write into it."""
        ...

    def source(self, name: str) -> TensorSource:
        """Return a tensor as spans that are read when asked for."""
        ...
