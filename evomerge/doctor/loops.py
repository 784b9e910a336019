"""The loops over weights: differences, sums and counts of one block, compiled.

Sums are float64, in a fixed order: four lanes, element i in lane i % 4. This file knows nothing about tensors or files.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.merging.kernels.compiled import compiled, widen

Array = npt.NDArray[Any]

#: Bins of a histogram over the upper 16 bits of float32 magnitudes.
BINS = 1 << 15


@compiled
def subtract(expert: Array, base: Array, delta: Array) -> None:
    """Write expert - base into `delta` (float32); the others are float32, or bfloat16 as uint16."""
    for i in range(delta.size):
        delta[i] = widen(expert[i]) - widen(base[i])


@compiled
def sums(base: Array, delta: Array) -> Any:
    """Return the sums of base^2, delta^2 and base * delta; NaN or infinite where an element is."""
    squares, changes, products = np.zeros(4), np.zeros(4), np.zeros(4)
    b0 = b1 = b2 = b3 = d0 = d1 = d2 = d3 = p0 = p1 = p2 = p3 = 0.0
    whole = delta.size - delta.size % 4
    for i in range(0, whole, 4):
        w0, w1 = np.float64(widen(base[i])), np.float64(widen(base[i + 1]))
        w2, w3 = np.float64(widen(base[i + 2])), np.float64(widen(base[i + 3]))
        e0, e1, e2, e3 = np.float64(delta[i]), np.float64(delta[i + 1]), np.float64(delta[i + 2]), np.float64(delta[i + 3])
        b0 += w0 * w0
        b1 += w1 * w1
        b2 += w2 * w2
        b3 += w3 * w3
        d0 += e0 * e0
        d1 += e1 * e1
        d2 += e2 * e2
        d3 += e3 * e3
        p0 += w0 * e0
        p1 += w1 * e1
        p2 += w2 * e2
        p3 += w3 * e3
    for i in range(whole, delta.size):
        w0, e0 = np.float64(widen(base[i])), np.float64(delta[i])
        b0 += w0 * w0
        d0 += e0 * e0
        p0 += w0 * e0
    return (b0 + b1) + (b2 + b3), (d0 + d1) + (d2 + d3), (p0 + p1) + (p2 + p3)


@compiled
def dot(x: Array, y: Array) -> Any:
    """Return the sum of x * y of float32 numbers."""
    s0 = s1 = s2 = s3 = 0.0
    whole = x.size - x.size % 4
    for i in range(0, whole, 4):
        s0 += np.float64(x[i]) * np.float64(y[i])
        s1 += np.float64(x[i + 1]) * np.float64(y[i + 1])
        s2 += np.float64(x[i + 2]) * np.float64(y[i + 2])
        s3 += np.float64(x[i + 3]) * np.float64(y[i + 3])
    for i in range(whole, x.size):
        s0 += np.float64(x[i]) * np.float64(y[i])
    return (s0 + s1) + (s2 + s3)


@compiled
def count(delta: Array, counts: Array) -> Any:
    """Add |delta| to a histogram (int64, `BINS` bins); return the number of exact zeros and the bits of the largest."""
    bits = delta.view(np.uint32)
    zeros = 0
    largest = np.uint32(0)
    for i in range(bits.size):
        magnitude = bits[i] & np.uint32(0x7FFFFFFF)
        largest = max(largest, magnitude)
        if magnitude == 0:  # the one bin that a fine-tune fills with most of its elements
            zeros += 1
        else:
            counts[magnitude >> np.uint32(16)] += 1
    counts[0] += zeros
    return zeros, largest
