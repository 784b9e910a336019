"""Numbers that need a whole tensor, the same on every device and thread count: sums in one order, exact counting.

This file knows nothing about what the numbers are for. A tensor comes as a function from a span to its elements, so
that none is ever held whole in float32.
"""

from collections.abc import Callable, Iterator

import torch

#: `(first, last)` -> float32 elements first .. last - 1.
Span = Callable[[int, int], torch.Tensor]

STRIDE = 1 << 18


def blocked_sum(values: Span, size: int) -> float:
    """Return the sum of all elements in float64, in a fixed order.

    Blocks of 2^18 elements are folded in halves, elementwise, and the blocks' sums are added from the first to the
    last: no step leaves the order to a library or a processor.
    """
    total = 0.0
    for first, last in _strides(size):
        folded = values(first, last).double()
        while (n := folded.numel()) > 1:
            half = (n + 1) // 2
            folded[: n - half] += folded[half:].clone()
            folded = folded[:half]
        total += float(folded)
    return total


def kth_largest(magnitudes: Span, size: int, k: int) -> float:
    """Return the exact k-th largest (k = 1: the largest) of `size` numbers >= 0, by counting.

    The bits of a float32 >= 0 order as the numbers do: a count of the upper halves finds the upper half of the answer,
    a count of the lower halves below that upper half the rest.
    """

    def bits() -> Iterator[torch.Tensor]:
        for first, last in _strides(size):
            yield magnitudes(first, last).view(torch.int32)

    high_counts = torch.zeros(1 << 15, dtype=torch.int64)
    for words in bits():
        high_counts += torch.bincount(words >> 16, minlength=1 << 15)
    high, k = _position(high_counts, k)
    low_counts = torch.zeros(1 << 16, dtype=torch.int64)
    for words in bits():
        low_counts += torch.bincount(words[(words >> 16) == high] & 0xFFFF, minlength=1 << 16)
    low, _ = _position(low_counts, k)
    return float(torch.tensor((high << 16) | low, dtype=torch.int32).view(torch.float32))


def _position(counts: torch.Tensor, k: int) -> tuple[int, int]:
    """Return the bin that holds the k-th element from above, and its rank from above in that bin."""
    from_above = counts.flip(0).cumsum(0)
    i = int(torch.searchsorted(from_above, k))
    before = int(from_above[i - 1]) if i else 0
    return len(counts) - 1 - i, k - before


def _strides(size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, size, STRIDE):
        yield first, min(first + STRIDE, size)
