"""The header of a safetensors file, read with distrust: which tensors it holds, and that they really fit in the file.

The format: 8 bytes of length (little endian), that much JSON, then the tensors' bytes. This file knows nothing about
models, and reads no tensor.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from evomerge.errors import UsageError

# The cap that safetensors' own reader has.
MAX_HEADER_BYTES = 100_000_000

DTYPES = {
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I64": torch.int64,
}


@dataclass(frozen=True)
class Entry:
    """One tensor of a file: its dtype and shape, and at which byte of the file its data start."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    start: int


def read_header(path: Path) -> dict[str, Entry]:
    """Return tensor name -> entry of a safetensors file.

    Raises `UsageError` naming the file if it is truncated, corrupt, or holds a type other than those of weights
    (float32, float16, bfloat16) and of what may lie beside them (truth values, bytes, 64-bit integers).
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if len(start) < 8 or 8 + length > size:
                raise UsageError(f"{path}: truncated or not a safetensors file; copy or download it again")
            if length > MAX_HEADER_BYTES:
                raise UsageError(f"{path}: corrupt: its header claims {length} bytes; copy or download it again")
            text = file.read(length)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: corrupt header (not JSON); copy or download it again") from None
    if not isinstance(header, dict):
        raise UsageError(f"{path}: corrupt header (not a mapping); copy or download it again")
    header.pop("__metadata__", None)
    return _entries(header, data_start=8 + length, data_bytes=size - 8 - length, path=path)


def refused_type(path: Path, name: str, dtype: str) -> UsageError:
    """Return the refusal of a tensor whose type is not that of a weight."""
    hint = "convert the model to float32" if dtype == "F64" else "a quantised model must be dequantised first"
    return UsageError(f"{path}: tensor {name!r} has type {dtype}; only F32, F16 and BF16 can be merged ({hint})")


def _entries(header: dict[str, Any], *, data_start: int, data_bytes: int, path: Path) -> dict[str, Entry]:
    entries = {}
    spans = []
    for name, fields in header.items():
        try:
            dtype, shape, (begin, end) = fields["dtype"], tuple(fields["shape"]), fields["data_offsets"]
            sane = all(type(n) is int and n >= 0 for n in (*shape, begin, end)) and begin <= end
        except (KeyError, TypeError, ValueError):
            sane = False
        if not sane:
            raise UsageError(f"{path}: corrupt header at tensor {name!r}; copy or download it again")
        if dtype not in DTYPES:
            raise refused_type(path, name, dtype)
        entry = Entry(DTYPES[dtype], shape, data_start + begin)
        if end > data_bytes:
            raise UsageError(f"{path}: truncated: tensor {name!r} ends beyond the file; copy or download it again")
        if math.prod(shape) * entry.dtype.itemsize != end - begin:
            raise UsageError(f"{path}: corrupt: tensor {name!r} has a size unlike its shape; copy or download it again")
        spans.append((begin, end, name))
        entries[name] = entry
    position = 0
    for begin, end, name in sorted(spans):
        if begin != position:
            raise UsageError(
                f"{path}: corrupt: tensor {name!r} does not start where the one before ends; copy it again"
            )
        position = end
    return entries
