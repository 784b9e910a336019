"""Reading part of a tensor: the one way in which weights reach a merge.

A source gives any span of one tensor's elements, wherever they lie. The file source here reads with pread into fresh
memory: no pages stay mapped, the peak is what is asked for, and threads share one file without sharing a position.
This file knows nothing about models, and nothing about what a merge does with the elements.
"""

import math
import os
import threading
import weakref
from pathlib import Path
from typing import Protocol

import torch

from evomerge.checkpoints.header import Entry
from evomerge.errors import WorkError

# Linux moves at most 2^31 - 4096 bytes in one call.
_CALL_BYTES = 1 << 30


class TensorSource(Protocol):
    """One tensor, read span by span. Any span has the same bits as that slice of the whole."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of what `read` returns: bfloat16, float16 or float32."""
        ...

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1` of the flattened tensor (C order), on the CPU.

        The result is one-dimensional and contiguous; callers do not write into it. May be called from many threads at
        once. Raises `WorkError` where the disk refuses.
        """
        ...


class WeightFile:
    """A file that many threads read at given positions; opened at the first read, closed with the object."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None
        self._opening = threading.Lock()

    def read_into(self, buffer: memoryview, position: int) -> None:
        """Fill `buffer` with the bytes from `position` on; `WorkError` if the file ends or the disk fails before."""
        done = 0
        try:
            handle = self._open()
            while done < len(buffer):
                count = os.preadv(handle, [buffer[done : done + _CALL_BYTES]], position + done)
                if count == 0:
                    raise WorkError(f"{self.path}: ends too early: it was changed or cut while it was in use")
                done += count
        except OSError as error:
            raise WorkError(f"{self.path}: cannot be read: {error.strerror or error}") from None

    def _open(self) -> int:
        with self._opening:
            if self._handle is None:
                self._handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
                weakref.finalize(self, os.close, self._handle)
            return self._handle


class FileSource:
    """A tensor as it lies in a safetensors file."""

    def __init__(self, file: WeightFile, entry: Entry) -> None:
        self._file = file
        self._entry = entry

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._entry.shape

    @property
    def dtype(self) -> torch.dtype:
        """The tensor's dtype in the file."""
        return self._entry.dtype

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1`; see `TensorSource`."""
        check_span(self, first, last)
        out = torch.empty(last - first, dtype=self.dtype)
        if last > first:
            self._file.read_into(out.view(torch.uint8).numpy().data, self._entry.start + first * self.dtype.itemsize)
        return out


def check_span(source: TensorSource, first: int, last: int) -> None:
    """Raise `IndexError` unless `first`..`last - 1` are elements of a source."""
    if not 0 <= first <= last <= math.prod(source.shape):
        raise IndexError(f"elements {first}..{last} of a tensor with {math.prod(source.shape)}")


def read_all(source: TensorSource) -> torch.Tensor:
    """Return the whole tensor, shaped."""
    return source.read(0, math.prod(source.shape)).view(source.shape)
