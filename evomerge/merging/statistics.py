"""Numbers that need a whole tensor, or the whole model, and depend on the models alone: computed once, then remembered.

Where memory allows, a table of each task vector's magnitudes is kept too, so that any density finds its threshold
without another pass, and so are the ranks that DELLA asks for. This file knows nothing about methods or recipes.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.kernels import sums
from evomerge.merging.methods.base import Source, Span, difference
from evomerge.merging.methods.reductions import exact_sum, kth_largest, kth_largest_of_many, peak, spans

T = TypeVar("T")

# Ranks are made for so many elements at a time.
_ROWS = 1 << 22


class Models(Protocol):
    """Where tensors come from: label ("" is the base) and name."""

    def source(self, label: str, name: str) -> Source: ...  # noqa: D102
    def shape(self, name: str) -> tuple[int, ...]: ...  # noqa: D102


@dataclass(frozen=True)
class MagnitudeTable:
    """All magnitudes of a task vector, sorted.

    Attributes:
        values: float32, descending; without repetitions where `counts` is given.
        counts: how many magnitudes are at least as large as each value; None: values holds every one.
    """

    values: npt.NDArray[np.float32]
    counts: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, magnitudes: npt.NDArray[np.float32]) -> "MagnitudeTable":
        """Make the table, compressed where that saves memory: differences of 16-bit numbers repeat a great deal."""
        ascending = np.sort(magnitudes)
        last = np.flatnonzero(ascending[1:] != ascending[:-1]) if len(ascending) else np.zeros(0, np.int64)
        distinct = len(last) + 1
        if 3 * distinct >= len(ascending):
            return cls(ascending[::-1], None)
        starts = np.concatenate([np.zeros(1, np.int64), last + 1])
        return cls(ascending[starts][::-1].copy(), (len(ascending) - starts)[::-1].copy())

    def kth_largest(self, k: int) -> float:
        """Return the k-th largest magnitude, k from 1."""
        return float(self.values[k - 1 if self.counts is None else np.searchsorted(self.counts, k)])

    @property
    def bytes(self) -> int:
        """The memory it takes."""
        return self.values.nbytes + (0 if self.counts is None else self.counts.nbytes)


class PoolStatistics:
    """The statistics of all tensors of a pool.

    Args:
        models: the pool.
        names: the merged tensors.
        cache_bytes: how much memory tables and ranks may take; 0: none are kept.
    """

    def __init__(self, models: Models, names: tuple[str, ...], *, cache_bytes: int = 0) -> None:
        self.models, self.names = models, names
        self._room = cache_bytes
        self._known: dict[Hashable, Any] = {}
        self._lock = Lock()
        self._model_lock = Lock()

    def of(self, name: str, labels: tuple[str, ...]) -> "TensorStatistics":
        """Return the statistics of one tensor, for some of the experts, in label order."""
        return TensorStatistics(self, name, labels)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what is known under a key, or compute it."""
        if key not in self._known:
            self._known[key] = compute()
        known: T = self._known[key]
        return known

    def reserve(self, size: int) -> bool:
        """Take some of the memory for tables and ranks; False if there is not so much."""
        with self._lock:
            if size > self._room:
                return False
            self._room -= size
            return True

    def delta(self, label: str, name: str) -> Span:
        """Return the task vector of an expert as a span."""
        base, expert = self.models.source("", name), self.models.source(label, name)
        return lambda a, b: difference(expert.read(a, b), base.read(a, b))

    def size(self, name: str) -> int:
        """Return the number of elements of a tensor."""
        return int(np.prod(self.models.shape(name), dtype=np.int64))

    def kth_largest_of_model(self, label: str, density: float) -> float:
        """Return the k-th largest |d| over all merged tensors, k = max(1, int(density * number))."""

        def compute() -> float:
            tensors = [(_magnitudes(self.delta(label, name)), self.size(name)) for name in self.names]
            return kth_largest_of_many(tensors, max(1, int(density * sum(size for _, size in tensors))))

        with self._model_lock:  # one thread computes, the others wait for it
            return self.once(("model", label, density), compute)


class TensorStatistics:
    """The statistics of one tensor: see `methods.base.Statistics`."""

    def __init__(self, pool: PoolStatistics, name: str, labels: tuple[str, ...]) -> None:
        self._pool, self._name, self._labels = pool, name, labels
        self._size = pool.size(name)

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return what `compute` gives, remembered under `key` for this tensor and these experts."""
        return self._pool.once((self._name, self._labels, key), compute)

    def peak(self, expert: int) -> float:
        """Return the largest |d|."""
        label = self._labels[expert]
        return self._pool.once(
            ("peak", self._name, label), lambda: peak(self._pool.delta(label, self._name), self._size)
        )

    def l1(self, expert: int) -> float:
        """Return sum |d|."""
        label = self._labels[expert]
        return self._pool.once(
            ("l1", self._name, label),
            lambda: exact_sum(_magnitudes(self._pool.delta(label, self._name)), self._size),
        )

    def gram(self) -> npt.NDArray[np.float64]:
        """Return the dot products of base and experts, of shape (K + 1, K + 1)."""

        def span(label: str) -> Span:
            source = self._pool.models.source(label, self._name)
            return lambda a, b: source.read(a, b).float()

        return self._gram("gram", ["", *self._labels], span)

    def gram_of_task_vectors(self) -> npt.NDArray[np.float64]:
        """Return the dot products of the task vectors, of shape (K, K)."""
        return self._gram("gram of task vectors", list(self._labels), lambda e: self._pool.delta(e, self._name))

    def _gram(self, kind: str, labels: list[str], span: Callable[[str], Span]) -> npt.NDArray[np.float64]:
        """Dot products, each pair remembered by itself: another choice of experts shares them."""
        pairs = [(a, b) for i, a in enumerate(labels) for b in labels[i:]]
        missing = [pair for pair in pairs if (kind, self._name, *pair) not in self._pool._known]
        if missing:
            needed = {label: span(label) for pair in missing for label in pair}
            for pair, value in _dots(needed, missing, self._size).items():
                self._pool._known[kind, self._name, *pair] = value
        result = np.empty((len(labels), len(labels)))
        for i, a in enumerate(labels):
            for j, b in enumerate(labels[i:], i):
                result[i, j] = result[j, i] = self._pool._known[kind, self._name, a, b]
        return result

    def kth_largest(self, expert: int, k: int) -> float:
        """Return the k-th largest |d|."""
        label = self._labels[expert]
        return self._kth((self._name, label), _magnitudes(self._pool.delta(label, self._name)), k)

    def kth_largest_of(self, key: Hashable, values: Span, k: int) -> float:
        """Return the k-th largest of other numbers >= 0 that depend on the models alone."""
        return self._kth((self._name, self._labels, key), values, k)

    def _kth(self, key: Hashable, values: Span, k: int) -> float:
        """Find it in the table, else by counting."""
        table = self._pool.once(("table", key), lambda: self._table(values))
        if table is not None:
            return table.kth_largest(k)
        return self._pool.once(("kth", key, k), lambda: kth_largest(values, self._size, k))

    def _table(self, magnitudes: Span) -> MagnitudeTable | None:
        if not self._pool.reserve(4 * self._size):
            return None
        values = np.empty(self._size, np.float32)
        for a, b in spans(self._size):
            values[a:b] = magnitudes(a, b).numpy()
        table = MagnitudeTable.of(values)
        self._pool.reserve(table.bytes - 4 * self._size)  # what compression saved
        return table

    def kth_largest_of_model(self, expert: int, density: float) -> float:
        """See `PoolStatistics.kth_largest_of_model`."""
        return self._pool.kth_largest_of_model(self._labels[expert], density)

    def ranks(self, expert: int, first: int, last: int) -> torch.Tensor:
        """Return the ranks of elements first .. last - 1 in their rows: see `methods.base.Operands.ranks`."""
        label = self._labels[expert]
        shape = self._pool.models.shape(self._name)
        columns = shape[-1] if shape else 1
        delta = self._pool.delta(label, self._name)

        def rows(a: int, b: int) -> torch.Tensor:
            return row_ranks(delta(a * columns, b * columns).view(-1, columns)).view(-1)

        def keep() -> torch.Tensor | None:
            width = 2 if columns <= 65536 else 4
            if not self._pool.reserve(width * self._size):
                return None
            step = max(1, _ROWS // columns)
            return torch.cat([rows(a, b) for a, b in spans(self._size // columns, step)])

        kept = self._pool.once(("ranks", self._name, label), keep)
        if kept is not None:
            return kept[first:last]
        start = first // columns
        part = rows(start, -(-last // columns))
        return part[first - start * columns : last - start * columns]


def row_ranks(values: torch.Tensor) -> torch.Tensor:
    """Return the rank of each |x| in its row of a 2-D tensor, 0 for the smallest, equal ones by position.

    uint16 where a row has at most 65,536 elements, else int32.
    """
    order = values.abs().argsort(dim=1, stable=True)
    positions = torch.arange(values.shape[1]).expand_as(order)
    ranks = torch.empty_like(order).scatter_(1, order, positions)
    return ranks.to(torch.uint16 if values.shape[1] <= 65536 else torch.int32)


def _magnitudes(delta: Span) -> Span:
    return lambda a, b: delta(a, b).abs_()


def _dots(vectors: dict[str, Span], pairs: list[tuple[str, str]], size: int) -> dict[tuple[str, str], float]:
    """Return the dot products of pairs of vectors as exact sums of rounded terms, in two passes."""
    peaks = {label: peak(span, size) for label, span in vectors.items()}
    scales = {(a, b): sums.scale_of(peaks[a] * peaks[b], size) for a, b in pairs}
    totals = dict.fromkeys(pairs, 0)
    for first, last in spans(size):
        blocks = {label: span(first, last).numpy() for label, span in vectors.items()}
        for a, b in pairs:
            totals[a, b] += int(sums.fixed_dot(blocks[a], blocks[b], scales[a, b]))
    return {pair: totals[pair] / scales[pair] for pair in pairs}
