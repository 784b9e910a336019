"""Exact sums and counts on the CPU, block by block: numbers that do not depend on the order of the blocks.

A sum is taken in whole numbers: each term, rounded to a multiple of a power of two that is small against the largest
term, is added to a 64-bit integer. Integers add up to the same in any order, on any device. This file knows nothing
about what is summed.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.compiled import compiled

Array = npt.NDArray[Any]


def scale_of(peak: float, size: int) -> float:
    """Return the power of two by which terms of at most `peak` are multiplied so that `size` of them fit into 62 bits.

    A term is so rounded to 2^-62 * size * peak at worst.
    """
    exponent = 62 - max(size - 1, 1).bit_length() - (math.frexp(peak)[1])
    return math.ldexp(1.0, min(max(exponent, -1000), 1000))


@compiled
def peak(values: Array) -> Any:
    """Return the largest |x| of float32 numbers (0 for none)."""
    largest = np.float32(0)
    for i in range(values.size):
        largest = max(largest, abs(values[i]))
    return largest


@compiled
def fixed_sum(values: Array, scale: Any) -> Any:
    """Return the sum of the rounded x * scale, as int64; `scale` is a power of two."""
    total = np.int64(0)
    for i in range(values.size):
        total += np.int64(np.rint(np.float64(values[i]) * scale))
    return total


@compiled
def fixed_kept(values: Array, numbers: Array, threshold: Any, scale: Any) -> Any:
    """Return the sum of the rounded |x| * scale of those whose number (uint16) is not below a threshold."""
    total = np.int64(0)
    for i in range(values.size):
        term = np.int64(np.rint(np.float64(abs(values[i])) * scale))
        total += term if numbers[i] >= threshold else np.int64(0)
    return total


@compiled
def fixed_kept_by_rank(values: Array, numbers: Array, ranks: Array, thresholds: Array, scale: Any) -> Any:
    """Return the same where the threshold (int32) depends on each element's rank."""
    total = np.int64(0)
    for i in range(values.size):
        term = np.int64(np.rint(np.float64(abs(values[i])) * scale))
        kept = np.int32(numbers[i]) >= thresholds[np.uintp(ranks[i])]
        total += term if kept else np.int64(0)
    return total


@compiled
def fixed_dot(x: Array, y: Array, scale: Any) -> Any:
    """Return the sum of the rounded x * y * scale of float32 numbers, as int64; the products are exact."""
    total = np.int64(0)
    for i in range(x.size):
        total += np.int64(np.rint((np.float64(x[i]) * np.float64(y[i])) * scale))
    return total


@compiled
def count_upper(values: Array, counts: Array) -> None:
    """Add float32 numbers >= 0 to a histogram of the upper 16 of their bits, int64, of shape (32768,)."""
    bits = values.view(np.uint32)
    for i in range(bits.size):
        counts[bits[i] >> np.uint32(16)] += 1


@compiled
def count_lower(values: Array, upper: Any, counts: Array) -> None:
    """Add those whose upper 16 bits are `upper` to a histogram of the lower 16, int64, of shape (65536,)."""
    bits = values.view(np.uint32)
    for i in range(bits.size):
        if bits[i] >> np.uint32(16) == upper:
            counts[bits[i] & np.uint32(0xFFFF)] += 1
