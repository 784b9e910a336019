"""The DARE mask: which elements of a task vector are dropped, as a function of (seed, expert, tensor, element) alone.

Every element has a 16-bit uniform number from a counter-based generator; it is dropped where that number lies below a
threshold. So the mask is the same whole or in pieces, in any order and on any device, and what is kept at a higher drop
rate is a subset of what is kept at a lower one. This file knows nothing about tensors' values or methods.

Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib
import math
from threading import Lock

import numpy as np
import torch

from evomerge.merging.kernels import cpu

_ELEMENTS_PER_BLOCK = 8


def threshold(drop_rate: float) -> int:
    """Return t = ceil(65536 p - 0.5), 0 to 65536: elements whose number is below t are dropped."""
    if not 0.0 <= drop_rate <= 1.0:
        raise ValueError(f"drop rate {drop_rate} is outside [0, 1]")
    return math.ceil(65536.0 * drop_rate - 0.5)


def rescale(t: int) -> float:
    """Return the inverse of the exact keep probability at threshold t, 65536 / (65536 - t); 0 where none is kept."""
    return 65536.0 / (65536 - t) if t < 65536 else 0.0


def key_of(seed: int, expert: str, tensor: str) -> int:
    """Return the generator's 64-bit key for an expert's tensor.

    Args:
        seed: the recipe's mask seed.
        expert: the expert's label in the recipe.
        tensor: the tensor's name in the merged checkpoint.
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{expert}/{tensor}".encode()).digest()[:8], "little")


def uniforms(key: int, first: int, last: int) -> torch.Tensor:
    """Return the numbers of elements first .. last - 1 of a tensor flattened in C order, uint16."""
    block = first // _ELEMENTS_PER_BLOCK
    blocks = -(-last // _ELEMENTS_PER_BLOCK) - block
    numbers = np.empty(blocks * _ELEMENTS_PER_BLOCK, np.uint16)
    cpu.philox(np.uint64(key), block, numbers)
    skip = first - block * _ELEMENTS_PER_BLOCK
    return torch.from_numpy(numbers[skip : skip + last - first])


class RememberedUniforms:
    """The numbers of whole tensors, of one seed at a time, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._seed: int | None = None
        self._numbers: dict[tuple[str, str], torch.Tensor] = {}
        self._room = max_bytes
        self._lock = Lock()

    def whole(self, seed: int, expert: str, tensor: str, size: int) -> torch.Tensor | None:
        """Return the numbers of a tensor of `size` elements; None if they do not fit in."""
        with self._lock:
            if seed != self._seed:
                self._seed, self._numbers, self._room = seed, {}, self._max_bytes
            known = self._numbers.get((expert, tensor))
            if known is not None or 2 * size > self._room:
                return known
            self._room -= 2 * size
        made = uniforms(key_of(seed, expert, tensor), 0, size)
        with self._lock:
            if seed == self._seed:
                self._numbers[expert, tensor] = made
        return made


def dropped(numbers: torch.Tensor, t: int) -> torch.Tensor:
    """Return the bool tensor that is true where an element is dropped; 0 < t < 65536."""
    # Through numpy: torch has no comparison of uint16.
    return torch.from_numpy(numbers.numpy() < np.uint16(t))
