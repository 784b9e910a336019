"""Tensors made of rows of other tensors: how embeddings follow their tokens.

This file knows nothing about tokens; it is told which row comes from where.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from evomerge.checkpoints.source import TensorSource, check_span


class MemorySource:
    """A tensor that is in memory."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor = tensor.contiguous()

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return tuple(self._tensor.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's dtype."""
        return self._tensor.dtype

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1`; see `TensorSource`."""
        check_span(self, first, last)
        return self._tensor.view(-1)[first:last]


class RowSource:
    """A tensor whose row i (first dimension) is row `rows[i]` of `parts[origins[i]]`.

    Its dtype is that of the parts it takes rows from; float32, which holds every row exactly, where they differ.
    """

    def __init__(self, parts: Sequence[TensorSource], origins: np.ndarray, rows: np.ndarray) -> None:
        used = np.unique(origins)
        if len({parts[i].shape[1:] for i in used}) != 1:
            raise ValueError("rows of different shapes")
        if any(rows[origins == i].min() < 0 or rows[origins == i].max() >= parts[i].shape[0] for i in used):
            raise ValueError("no such row")
        dtypes = {parts[i].dtype for i in used}
        self._parts = parts
        self._origins = origins
        self._rows = rows
        self._dtype = dtypes.pop() if len(dtypes) == 1 else torch.float32
        self._tail = parts[used[0]].shape[1:]
        # Where a run of neighbouring rows of one part begins.
        breaks = np.flatnonzero((np.diff(origins) != 0) | (np.diff(rows) != 1)) + 1
        self._starts = np.concatenate([[0], breaks])

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return (len(self._rows), *self._tail)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what `read` returns."""
        return self._dtype

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1`; see `TensorSource`."""
        check_span(self, first, last)
        out = torch.empty(last - first, dtype=self._dtype)
        width = math.prod(self._tail)
        position = first
        while position < last:
            run = int(np.searchsorted(self._starts, position // width, side="right"))
            start = int(self._starts[run - 1])
            end = int(self._starts[run]) * width if run < len(self._starts) else last
            stop = min(end, last)
            shift = (int(self._rows[start]) - start) * width
            part = self._parts[int(self._origins[start])]
            out[position - first : stop - first] = part.read(position + shift, stop + shift)
            position = stop
        return out
