"""Writing a safetensors file piece by piece, in any order, from any thread, with the same bytes for the same content.

The safetensors package's own writer wants all tensors at once and orders metadata at random. This file knows the format
(8 bytes of header length, a JSON header, the tensors) and nothing else.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import torch

from evomerge.merging.fingerprint import bit_words

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


class SafetensorsWriter:
    """A new file whose tensors all have one dtype; a context manager.

    Args:
        path: where to; must not exist.
        shapes: name -> shape, in the order of the file.
        dtype: of all tensors.
        metadata: the file's text metadata.
    """

    def __init__(
        self, path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, *, metadata: Mapping[str, str]
    ) -> None:
        self._dtype = dtype
        self._starts: dict[str, int] = {}
        header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
        position = 0
        for name, shape in shapes.items():
            end = position + math.prod(shape) * dtype.itemsize
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
            self._starts[name] = position
            position = end
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        head = len(text).to_bytes(8, "little") + text
        self._data = len(head)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(self._file, len(head) + position)
            self._put(memoryview(head), 0)
        except BaseException:
            os.close(self._file)
            raise

    def write(self, name: str, first: int, elements: torch.Tensor) -> None:
        """Write elements first, first + 1, ... of a tensor. May be called from many threads at once."""
        assert elements.dtype == self._dtype
        words = bit_words(elements)
        little = words.astype(words.dtype.newbyteorder("<"), copy=False)
        self._put(memoryview(little.data).cast("B"), self._data + self._starts[name] + first * self._dtype.itemsize)

    def _put(self, data: memoryview, position: int) -> None:
        while data:
            written = os.pwrite(self._file, data, position)
            data, position = data[written:], position + written

    def __enter__(self) -> "SafetensorsWriter":
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, seen onto the disk if all went well."""
        try:
            if kind is None:
                os.fsync(self._file)
        finally:
            os.close(self._file)
