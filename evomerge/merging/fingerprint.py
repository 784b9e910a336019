"""A 64-bit fingerprint of a set of named tensors: equal bits, equal fingerprint, in whatever order or pieces they come.

It is the sum modulo 2^64 of one mixed word an element, made of the tensor's name, the element's index and its bits. It
tells an accident from equality; it is no defence against forgery. This file knows nothing about models or files.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

_MASK = (1 << 64) - 1
_CHUNK = 1 << 15
# Weyl step and finaliser constants of splitmix64 (Steele, Lea, Flood, OOPSLA 2014), and an odd constant for the bits.
_STEP = 0x9E3779B97F4A7C15
_BITS = np.uint64(0xD6E8FEB86659FD93)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)
_RAMP = np.arange(_CHUNK, dtype=np.uint64) * np.uint64(_STEP)
_WORDS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def fingerprint(name: str, tensor: torch.Tensor, *, first: int = 0) -> int:
    """Return the fingerprint of a tensor or a piece of one; the fingerprint of several is their `combine`.

    Args:
        name: the tensor's name.
        tensor: bfloat16, float16 or float32, of any shape; read in C order.
        first: the index, in the whole tensor, of the piece's first element.
    """
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    bits = bit_words(tensor)
    total = 0
    for start in range(0, bits.size, _CHUNK):
        chunk = bits[start : start + _CHUNK]
        z = chunk.astype(np.uint64)
        z *= _BITS
        z ^= _RAMP[: chunk.size] + np.uint64((key + (first + start) * _STEP) & _MASK)
        z ^= z >> _S30
        z *= _MIX1
        z ^= z >> _S27
        z *= _MIX2
        z ^= z >> _S31
        total += int(z.sum())
    return total & _MASK


def combine(*fingerprints: int) -> int:
    """Return the fingerprint of several tensors, or pieces, together."""
    return sum(fingerprints) & _MASK


def to_text(value: int) -> str:
    """Return the form that is recorded: 16 hexadecimal digits."""
    return f"{value:016x}"


def bit_words(tensor: torch.Tensor) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Return the bits of a tensor's elements, flat, in C order, as unsigned words of their width."""
    flat: npt.NDArray[Any] = tensor.detach().cpu().contiguous().reshape(-1).view(_WORDS[tensor.dtype]).numpy()
    return flat.view(np.uint16 if flat.itemsize == 2 else np.uint32)
