"""Dot products of the rows or of the columns of tensors, in float64, in an order that the shape alone decides.

In a column the elements are added up from the first to the last; in a row, every eighth by itself, and then the eight
sums. So the result does not depend on how a tensor is read in pieces. This file knows nothing about what it is for.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.compiled import compiled
from evomerge.merging.methods.base import BLOCK, Span
from evomerge.merging.methods.reductions import spans

_LANES = 8


@dataclass(frozen=True)
class Slices:
    """How a tensor of `size` elements, seen as a matrix of that many columns, is cut: into its rows or its columns."""

    size: int
    columns: int
    rows: bool

    @property
    def count(self) -> int:
        """The number of slices."""
        if self.size == 0:
            return 0
        return self.size // self.columns if self.rows else self.columns

    def dots(self, vectors: Sequence[Span]) -> npt.NDArray[np.float64]:
        """Return the dot products of the vectors in each slice, of shape (count, len(vectors), len(vectors))."""
        n = len(vectors)
        totals = np.zeros((n, n, self.count))
        for first, last in self._whole_rows():
            values = [
                vector(first * self.columns, last * self.columns).view(-1, self.columns).numpy() for vector in vectors
            ]
            for i in range(n):
                for j in range(i, n):
                    if self.rows:
                        _row_dots(values[i], values[j], totals[i, j, first:last])
                    else:
                        _add_column_dots(values[i], values[j], totals[i, j])
        for i in range(n):
            for j in range(i):
                totals[i, j] = totals[j, i]
        return np.moveaxis(totals, 2, 0)

    def spread(self, values: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of the tensor that has values[s] everywhere in slice s."""
        row = first // self.columns
        rows = -(-last // self.columns) - row
        part = values[row : row + rows, None].expand(rows, self.columns) if self.rows else values.expand(rows, -1)
        return part.reshape(-1)[first - row * self.columns : last - row * self.columns]

    def _whole_rows(self) -> Iterator[tuple[int, int]]:
        if self.size == 0:
            return iter(())
        return spans(self.size // self.columns, max(1, BLOCK // self.columns))


@compiled
def _row_dots(x: npt.NDArray[Any], y: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """Write the dot product of each row."""
    rows, columns = x.shape
    lanes = np.empty(_LANES, np.float64)
    for r in range(rows):
        lanes[:] = 0.0
        whole = columns // _LANES * _LANES
        for c in range(0, whole, _LANES):
            for k in range(_LANES):
                lanes[k] += np.float64(x[r, c + k]) * np.float64(y[r, c + k])
        for c in range(whole, columns):
            lanes[c - whole] += np.float64(x[r, c]) * np.float64(y[r, c])
        total = lanes[0]
        for k in range(1, _LANES):
            total += lanes[k]
        out[r] = total


@compiled
def _add_column_dots(x: npt.NDArray[Any], y: npt.NDArray[Any], totals: npt.NDArray[Any]) -> None:
    """Add to the dot product of each column, row after row."""
    rows, columns = x.shape
    for r in range(rows):
        for c in range(columns):
            totals[c] += np.float64(x[r, c]) * np.float64(y[r, c])
