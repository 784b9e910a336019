"""The tensors of a LoRA expert: the base's tensor plus a product of two thin matrices, span by span.

    W' = float32(W) + scale * (L R),   (L R)[i, j] = sum over k of L[i, k] R[k, j], in the order of k

(Hu et al. 2021, https://arxiv.org/abs/2106.09685, equation 3: L is their B, R their A.) Everything is float32, element
by element, every product and sum rounded separately: so every span has the bits of that slice of the whole, on every
machine. DoRA (Liu et al. 2024, https://arxiv.org/abs/2402.09353, equation 5) then scales each output of W' to a trained
length. This file knows nothing about files or names.
"""

import math
import threading
from typing import Any

import numpy as np
import torch

from evomerge.checkpoints.source import TensorSource, check_span
from evomerge.compiled import compiled

_COLUMNS = 1024
_NORM_ELEMENTS = 1 << 20


class LoraSource:
    """A tensor with a low-rank change.

    Args:
        base: the tensor that is changed, seen as a matrix: its first dimension by all others.
        left: (rows, rank), float32.
        right: (rank, columns), float32.
        scale: alpha / rank, or what takes its place.
    """

    def __init__(self, base: TensorSource, left: torch.Tensor, right: torch.Tensor, scale: float) -> None:
        matrix = (*base.shape[:1], math.prod(base.shape[1:]))
        if (left.shape[0], right.shape[1]) != matrix or left.shape[1] != right.shape[0]:
            raise ValueError(f"no product of {list(left.shape)} and {list(right.shape)} fits {list(base.shape)}")
        self._base = base
        self._left = np.ascontiguousarray(left.numpy())
        self._right = np.ascontiguousarray(right.numpy())
        self._scale = np.float32(scale)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._base.shape

    @property
    def dtype(self) -> torch.dtype:
        """Always float32: a product rounded to bfloat16 would lose most of a small change."""
        return torch.float32

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1`; see `TensorSource`."""
        check_span(self, first, last)
        out = self._base.read(first, last).to(torch.float32, copy=True)
        _add_product(out.numpy(), first, self._left, self._right, self._scale)
        return out


class DoraSource:
    """A matrix whose rows (or columns) are scaled to trained lengths.

    Args:
        directions: the matrix, float32.
        magnitude: the length of each row, float32; of each column with `columns`.
        columns: outputs are columns, as in GPT-2's Conv1D.
    """

    def __init__(self, directions: TensorSource, magnitude: torch.Tensor, *, columns: bool) -> None:
        if len(directions.shape) != 2 or tuple(magnitude.shape) != (directions.shape[int(columns)],):
            raise ValueError(f"{list(magnitude.shape)} magnitudes do not fit {list(directions.shape)}")
        self._directions = directions
        self._magnitude = magnitude
        self._columns = columns
        self._made: torch.Tensor | None = None
        self._making = threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """The matrix's shape."""
        return self._directions.shape

    @property
    def dtype(self) -> torch.dtype:
        """Always float32."""
        return torch.float32

    def read(self, first: int, last: int) -> torch.Tensor:
        """Return elements `first`..`last - 1`; see `TensorSource`. The first call reads the whole matrix once."""
        check_span(self, first, last)
        with self._making:
            if self._made is None:
                self._made = self._factors()
        elements = torch.arange(first, last)
        width = self.shape[1]
        which = elements % width if self._columns else elements // width
        return self._directions.read(first, last) * self._made[which]

    def _factors(self) -> torch.Tensor:
        """Magnitude by norm of each row or column; the squares are summed in float64, in the order of the elements."""
        rows, width = self.shape
        squares = np.zeros(self._magnitude.shape, dtype=np.float64)
        step = max(1, _NORM_ELEMENTS // max(1, width))
        for row in range(0, rows, step):
            end = min(row + step, rows)
            block = self._directions.read(row * width, end * width).view(-1, width).numpy()
            _add_squares(squares if self._columns else squares[row:end], block, self._columns)
        return self._magnitude / torch.from_numpy(np.sqrt(squares)).to(torch.float32)


@compiled
def _add_term(total: Any, factor: Any, row: Any) -> None:
    for j in range(total.shape[0]):
        total[j] += factor * row[j]


@compiled
def _add_product(out: Any, first: Any, left: Any, right: Any, scale: Any) -> None:
    """Add `scale` times elements `first`... of the flattened product `left @ right` to `out`."""
    rank, columns = right.shape
    block = np.empty(_COLUMNS, np.float32)
    done = 0
    while done < out.shape[0]:
        row = (first + done) // columns
        column = first + done - row * columns
        count = min(_COLUMNS, columns - column, out.shape[0] - done)
        total = block[:count]
        total[:] = np.float32(0)
        for k in range(rank):
            _add_term(total, left[row, k], right[k, column : column + count])
        _add_term(out[done : done + count], scale, total)
        done += count


@compiled
def _add_squares(squares: Any, block: Any, columns: Any) -> None:
    for i in range(block.shape[0]):
        for j in range(block.shape[1]):
            value = np.float64(block[i, j])
            squares[j if columns else i] += value * value
