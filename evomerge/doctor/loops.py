"""The loops over weights: differences, sums and counts of one block, compiled.

Sums are float64 in a fixed order: `LANES` running sums, element i in sum i % LANES, whatever the processor. This file
knows nothing about tensors or files.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.compiled import compiled, widen

Array = npt.NDArray[Any]

#: Bins of a histogram over the upper 16 bits of float32 magnitudes.
BINS = 1 << 15
LANES = 16


@compiled
def add_products(base: Array, delta: Array, sums: Array) -> None:
    """Add base^2, delta^2 and base * delta to `sums`, shape (3, LANES)."""
    whole = delta.size - delta.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            b, d = np.float64(widen(base[i + lane])), np.float64(delta[i + lane])
            sums[0, lane] += b * b
            sums[1, lane] += d * d
            sums[2, lane] += b * d
    for i in range(whole, delta.size):
        b, d = np.float64(widen(base[i])), np.float64(delta[i])
        sums[0, i - whole] += b * b
        sums[1, i - whole] += d * d
        sums[2, i - whole] += b * d


@compiled
def add_dot(x: Array, y: Array, sums: Array) -> None:
    """Add x * y of float32 numbers to `sums`, shape (LANES,)."""
    whole = x.size - x.size % LANES
    for i in range(0, whole, LANES):
        for lane in range(LANES):
            sums[lane] += np.float64(x[i + lane]) * np.float64(y[i + lane])
    for i in range(whole, x.size):
        sums[i - whole] += np.float64(x[i]) * np.float64(y[i])


@compiled
def count(delta: Array, counts: Array) -> None:
    """Add |delta| to a histogram, uint32, shape (2, BINS): one for each half, since equal neighbours would wait."""
    bits = delta.view(np.uint32)
    half = bits.size // 2
    for i in range(half):
        counts[0, (bits[i] & np.uint32(0x7FFFFFFF)) >> np.uint32(16)] += np.uint32(1)
        counts[1, (bits[half + i] & np.uint32(0x7FFFFFFF)) >> np.uint32(16)] += np.uint32(1)
    for i in range(2 * half, bits.size):
        counts[0, (bits[i] & np.uint32(0x7FFFFFFF)) >> np.uint32(16)] += np.uint32(1)


@compiled
def extremes(delta: Array) -> Any:
    """Return the number of exact zeros, and the bits of the largest |delta|."""
    bits = delta.view(np.uint32)
    zeros = 0
    largest = np.uint32(0)
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        largest = max(largest, magnitude)
        zeros += magnitude == 0
    return zeros, largest
