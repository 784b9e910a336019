"""The DARE mask: which elements of a task vector are dropped, as a function of (seed, expert, tensor, element) alone.

Every element has a 16-bit uniform number from a counter-based generator; it is dropped where that number lies below a
threshold. So the mask is the same whole or in pieces, in any order and on any device, and what is kept at a higher drop
rate is a subset of what is kept at a lower one. This file knows nothing about tensors' values or methods.

Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

import hashlib
import math
from collections.abc import Callable
from threading import Lock

import numpy as np
import numpy.typing as npt
import torch

#: `(seed, expert, tensor, first, count)` -> uint16 tensor of `count` numbers: `uniforms`, or something that remembers.
Uniforms = Callable[[int, str, str, int, int], torch.Tensor]

_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_KEY_STEPS = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_ELEMENTS_PER_BLOCK = 8
# So many Philox blocks at a time keep the working arrays in the processor's cache.
_CHUNK = 4096


def threshold(drop_rate: float) -> int:
    """Return t = ceil(65536 p - 0.5), 0 to 65536: elements whose number is below t are dropped."""
    if not 0.0 <= drop_rate <= 1.0:
        raise ValueError(f"drop rate {drop_rate} is outside [0, 1]")
    return math.ceil(65536.0 * drop_rate - 0.5)


def rescale(t: int) -> float:
    """Return the inverse of the exact keep probability at threshold t, 65536 / (65536 - t); 0 where none is kept."""
    return 65536.0 / (65536 - t) if t < 65536 else 0.0


def uniforms(seed: int, expert: str, tensor: str, first: int, count: int) -> torch.Tensor:
    """Return the numbers of elements first .. first + count - 1 of a tensor flattened in C order.

    Args:
        seed: the recipe's mask seed.
        expert: the expert's label in the recipe.
        tensor: the tensor's name in the merged checkpoint.
        first, count: which elements.

    Returns a uint16 tensor of shape (count,).
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{expert}/{tensor}".encode()).digest()[:8], "little")
    block = first // _ELEMENTS_PER_BLOCK
    blocks = -(-(first + count) // _ELEMENTS_PER_BLOCK) - block
    halves = np.empty(blocks * _ELEMENTS_PER_BLOCK, dtype="<u2")
    words = halves.view("<u4").reshape(blocks, 4)
    for start in range(0, blocks, _CHUNK):
        stop = min(start + _CHUNK, blocks)
        _philox(key, np.arange(block + start, block + stop, dtype=np.uint64), words[start:stop])
    skip = first - block * _ELEMENTS_PER_BLOCK
    return torch.from_numpy(halves[skip : skip + count].astype(np.uint16, copy=False))


def dropped(numbers: torch.Tensor, t: int) -> torch.Tensor:
    """Return the bool tensor that is true where an element is dropped; 0 < t < 65536."""
    # Through numpy: torch has no comparison of uint16.
    return torch.from_numpy(numbers.numpy() < np.uint16(t))


class CachedUniforms:
    """`uniforms` that remembers the blocks it has made, of one seed at a time, up to a number of bytes."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._seed: int | None = None
        self._blocks: dict[tuple[str, str, int, int], torch.Tensor] = {}
        self._bytes = 0
        self._lock = Lock()

    def __call__(self, seed: int, expert: str, tensor: str, first: int, count: int) -> torch.Tensor:
        """See `uniforms`."""
        key = (expert, tensor, first, count)
        with self._lock:
            if seed != self._seed:
                self._seed, self._blocks, self._bytes = seed, {}, 0
            found = self._blocks.get(key)
        if found is not None:
            return found
        made = uniforms(seed, expert, tensor, first, count)
        with self._lock:
            if seed == self._seed and key not in self._blocks and self._bytes + made.nbytes <= self.max_bytes:
                self._blocks[key] = made
                self._bytes += made.nbytes
        return made


def _philox(key: int, counters: npt.NDArray[np.uint64], out: npt.NDArray[np.uint32]) -> None:
    """Write Philox4x32-10(key, (counter low word, counter high word, 0, 0)) into out, of shape (len(counters), 4)."""
    key0, key1 = key & 0xFFFFFFFF, key >> 32
    a, b = counters & _LOW, counters >> _SHIFT
    c, d = np.zeros_like(counters), np.zeros_like(counters)
    for _ in range(_ROUNDS):
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a = (right >> _SHIFT) ^ b ^ np.uint64(key0)
        c = (left >> _SHIFT) ^ d ^ np.uint64(key1)
        b, d = right & _LOW, left & _LOW
        key0, key1 = (key0 + _KEY_STEPS[0]) & 0xFFFFFFFF, (key1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    for column, word in enumerate((a, b, c, d)):
        out[:, column] = word
