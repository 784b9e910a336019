"""A 64-bit fingerprint of a set of named tensors: equal bits, equal fingerprint, in whatever order or pieces they come.

It is the sum modulo 2^64 of one mixed word for every eight bytes of a tensor, made of the tensor's name, the word's
index and its bits; a last word that is not full is filled up with zeros. It tells an accident from equality; it is no
defence against forgery. The loops are in `kernels`. This file knows nothing about models or files.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.kernels import cpu

_MASK = (1 << 64) - 1
_WORDS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}


def fingerprint(name: str, tensor: torch.Tensor, *, first: int = 0) -> int:
    """Return the fingerprint of a tensor or a piece of one; the fingerprint of several is their `combine`.

    Args:
        name: the tensor's name.
        tensor: bfloat16, float16 or float32, of any shape; read in C order.
        first: the index, in the whole tensor, of the piece's first element; a multiple of 8.
    """
    return int(cpu.hash_bits(bit_words(tensor), np.uint64(key_of(name)), first))


def key_of(name: str) -> int:
    """Return the 64-bit key of a tensor's name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


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
