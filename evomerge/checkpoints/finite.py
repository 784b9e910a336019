"""Whether a tensor holds NaN or infinity, at the speed of reading it and in the memory of one block."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from evomerge.checkpoints.source import TensorSource

_BLOCK = 1 << 20
# Infinity's bits without the sign, shifted out to the left: NaN lies above it, every finite number below.
_INFINITY: Mapping[torch.dtype, np.unsignedinteger[Any]] = {
    torch.bfloat16: np.uint16(0x7F80 << 1),
    torch.float16: np.uint16(0x7C00 << 1),
    torch.float32: np.uint32(0x7F800000 << 1),
}


def all_finite(source: TensorSource) -> bool:
    """Say whether no element of a tensor is NaN or infinite; reads all of it."""
    size = math.prod(source.shape)
    infinity = _INFINITY[source.dtype]
    word = torch.uint16 if source.dtype.itemsize == 2 else torch.uint32
    for first in range(0, size, _BLOCK):
        bits = source.read(first, min(first + _BLOCK, size)).view(word).numpy()
        if (bits << bits.dtype.type(1)).max() >= infinity:
            return False
    return True
