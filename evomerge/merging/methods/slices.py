"""Dot products of the rows or of the columns of tensors, in float64, added up in the order of the elements.

So they do not depend on how a tensor is read in pieces. This file knows nothing about what they are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.kernels.compiled import compiled
from evomerge.merging.methods.base import Span
from evomerge.merging.methods.reductions import spans


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
        for first, last in spans(self.size):
            values = [vector(first, last).numpy() for vector in vectors]
            for i in range(n):
                for j in range(i, n):
                    _add_dots(values[i], values[j], first, self.columns, self.rows, totals[i, j])
        for i in range(n):
            for j in range(i):
                totals[i, j] = totals[j, i]
        return np.moveaxis(totals, 2, 0)

    def spread(self, values: torch.Tensor, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of the tensor that has values[s] everywhere in slice s."""
        index = torch.arange(first, last)
        return values[index // self.columns if self.rows else index % self.columns]


@compiled
def _add_dots(
    x: npt.NDArray[Any], y: npt.NDArray[Any], first: int, columns: int, rows: bool, totals: npt.NDArray[Any]
) -> None:
    row, column = first // columns, first % columns
    for i in range(x.size):
        totals[row if rows else column] += np.float64(x[i]) * np.float64(y[i])
        column += 1
        if column == columns:
            row, column = row + 1, 0
