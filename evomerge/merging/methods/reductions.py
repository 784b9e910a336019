"""Numbers that need a whole tensor, the same on every device and thread count: exact sums, exact counting.

This file knows nothing about what the numbers are for. A tensor comes as a function from a span to its elements, so
that none is ever held whole in float32.
"""

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import BLOCK, Span


def peak(values: Span, size: int) -> float:
    """Return the largest |x| of `size` elements; 0 for none."""
    return max((float(sums.peak(values(a, b).numpy())) for a, b in spans(size)), default=0.0)


def exact_sum(values: Span, size: int) -> float:
    """Return the sum of float32 elements: an exact sum of terms rounded to 2^-62 * size * the largest of them."""
    scale = sums.scale_of(peak(values, size), size)
    return sum(int(sums.fixed_sum(values(a, b).numpy(), scale)) for a, b in spans(size)) / scale


def kth_largest(magnitudes: Span, size: int, k: int) -> float:
    """Return the exact k-th largest (k = 1: the largest) of `size` numbers >= 0, by counting."""
    return kth_largest_of_many([(magnitudes, size)], k)


def kth_largest_of_many(tensors: list[tuple[Span, int]], k: int) -> float:
    """Return the exact k-th largest of the numbers >= 0 in several tensors together.

    The bits of a float32 >= 0 order as the numbers do: a count of the upper halves finds the upper half of the answer,
    a count of the lower halves below that upper half the rest.
    """

    def histogram(
        bins: int, count: Callable[[npt.NDArray[np.float32], npt.NDArray[np.int64]], None]
    ) -> npt.NDArray[np.int64]:
        counts = np.zeros(bins, np.int64)
        for magnitudes, size in tensors:
            for a, b in spans(size):
                count(magnitudes(a, b).numpy(), counts)
        return counts

    high, k = _position(histogram(1 << 15, sums.count_upper), k)
    upper = np.uint32(high)
    low, _ = _position(histogram(1 << 16, lambda values, counts: sums.count_lower(values, upper, counts)), k)
    return float(np.uint32((high << 16) | low).view(np.float32))


def spans(size: int, length: int = BLOCK) -> Iterator[tuple[int, int]]:
    """Divide 0 .. size - 1 into pairs (first, last), last excluded, of at most `length` elements."""
    for first in range(0, size, length):
        yield first, min(first + length, size)


def _position(counts: npt.NDArray[np.int64], k: int) -> tuple[int, int]:
    """Return the bin that holds the k-th element from above, and its rank from above in that bin."""
    from_above = np.cumsum(counts[::-1])
    i = int(np.searchsorted(from_above, k))
    before = int(from_above[i - 1]) if i else 0
    return len(counts) - 1 - i, k - before
