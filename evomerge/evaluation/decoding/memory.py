"""Keys and values of a batch while it is decoded: those of the shared prefix once, those of each row in a slot.

A model of transformers hands its new keys and values to `update` and then asks for attention; both end here. Slots
are allocated once and written in place. All rows end at the same column, so that a step writes one column of all;
shorter rows begin later, behind a mask. When rows leave, the last ones move into the gaps. This file knows nothing
about tokens.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache

from evomerge.evaluation.decoding.attention import attend, attend_shared, join

#: Where steps are to be alike, columns are added so many at a time.
COLUMNS = 128

Pair = tuple[Tensor, Tensor]  # keys, values: rows x heads x tokens x size


class UnsuitableError(Exception):
    """The model's attention is of a kind that is not computed here."""


class Memory(Cache):  # type: ignore[misc]
    """The keys and values of rows behind a shared prefix.

    Args:
        lengths: how many tokens of each row, without the prefix, are filled in before the first step.
        more: how many steps there may be.
        prefix: the shared keys and values, one pair a layer; empty without a prefix.
        device: where the masks live; keys and values live where their layers are.
        still: let many steps in a row have the same shapes and addresses, by attending to columns that are not written
            yet behind a mask: for a CUDA graph.

    Attributes:
        rows: how many rows are left; they have the first slots.
    """

    def __init__(
        self, lengths: Sequence[int], more: int, prefix: list[Pair], *, device: torch.device, still: bool = False
    ) -> None:
        super().__init__(layers=[])
        self.prefix, self.rows, self._still = prefix, len(lengths), still
        self._end = max(lengths)  # the column after the last one written
        self._starts = [self._end - length for length in lengths]
        self.capacity = self._end + more
        self._slots: list[Pair] = []
        self._part: tuple[int, int] | None = None
        self._begin = torch.tensor(self._starts, device=device)
        self._place = torch.zeros(1, dtype=torch.long, device=device)  # the column that a step writes
        columns = torch.arange(self.capacity, device=device)
        unwritten = (columns < self._begin[:, None]) | (columns >= self._end)
        self._hidden = torch.where(unwritten, float("-inf"), 0.0)
        self._measure()

    @property
    def prefix_length(self) -> int:
        """Tokens of the shared prefix."""
        return int(self.prefix[0][0].shape[2]) if self.prefix else 0

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens seen so far: for models that ask."""
        return self.prefix_length + self._end

    # -- what the next forward pass is about -------------------------------------------------------------------------

    def fill(self, first: int, last: int) -> None:
        """The next forward pass fills rows first..last-1 from their beginning, each padded on its right."""
        self._part = (first, last)

    def step(self) -> Tensor:
        """The next forward pass adds one token to each row; returns the tokens' positions (rows x 1)."""
        self._part = None
        positions = self._end + self.prefix_length - self._begin[: self.rows]
        self._hidden[:, self._end] = 0.0
        self._place.fill_(self._end)
        self._end += 1
        self._columns = slice(0, min(self.capacity, -(-self._end // COLUMNS) * COLUMNS))
        if not self._still:
            self._columns = slice(self._first, self._end)
        masked = self._uneven or self._still
        self._mask = self._hidden[: self.rows, None, None, self._columns] if masked else None
        return positions[:, None]

    @property
    def capturable(self) -> bool:
        """Whether the step that is about to be can be captured in a CUDA graph."""
        return self._still and self._place.device.type == "cuda"

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the step that is about to be: where they and `still` are the same, so are addresses."""
        return self.rows, self._columns.stop

    def drop(self, gone: list[int]) -> list[int]:
        """Remove rows; returns for each slot that is left the slot that its row was in before."""
        left = self.rows - len(gone)
        order = list(range(left))
        movers = [row for row in range(left, self.rows) if row not in gone]
        live = slice(self._first, self._end)
        for gap, mover in zip((row for row in sorted(gone) if row < left), movers, strict=True):
            order[gap] = mover
            for pair in self._slots:
                for slots in pair:
                    slots[gap, :, live] = slots[mover, :, live]
            self._begin[gap] = self._begin[mover]
            self._hidden[gap] = self._hidden[mover]
        self.rows, self._starts = left, [self._starts[row] for row in order]
        self._measure()
        return order

    def _measure(self) -> None:
        self._first = min(self._starts, default=0)
        self._uneven = len(set(self._starts)) > 1

    # -- called by the model -------------------------------------------------------------------------------------------

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any) -> Pair:
        """Store a layer's new keys and values; they are given back too, though a step's attention reads the slots."""
        key_states, value_states = kept(key_states), kept(value_states)
        if layer_idx == len(self._slots):
            keys, values = (  # zeros: attention does not survive a NaN, even where it is masked
                part.new_zeros((len(self._hidden), part.shape[1], self.capacity, part.shape[3]))
                for part in (key_states, value_states)
            )
            self._slots.append((keys, values))
        for slots, new in zip(self._slots[layer_idx], (key_states, value_states), strict=True):
            if self._part is None and self._still:
                slots[: self.rows].index_copy_(2, self._place.to(slots.device), new)
                continue
            if self._part is None:
                slots[: self.rows, :, self._end - 1] = new[:, :, 0]
                continue
            first, last = self._part
            for start, run in groupby(range(first, last), key=self._starts.__getitem__):
                alike = list(run)
                rows = slice(alike[0], alike[-1] + 1)
                slots[rows, :, start : self._end] = new[
                    alike[0] - first : alike[-1] + 1 - first, :, : self._end - start
                ]
        return key_states, value_states

    def attention(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Return attention's output (rows x heads x queries x size) for a layer's new queries."""
        query = kept(query)
        if self._part is not None:
            own = attend(query, key, value, scale=scale, causal=True)
        else:
            keys, values = (part[: self.rows, :, self._columns] for part in self._slots[layer])
            mask = None if self._mask is None else self._mask.to(query.device)
            own = attend(query, keys, values, scale=scale, mask=mask)
        if not self.prefix:
            return own[0]
        return join(attend_shared(query, *self.prefix[layer], scale=scale), own)

    def as_prefix(self) -> list[Pair]:
        """Return what the only row holds, as a prefix for others."""
        return list(self._slots)


def kept(part: Tensor) -> Tensor:
    """Return queries, keys or values in the type that they are kept in.

    On a CPU that is at least float32: torch's attention of one query a row takes three times as long in bfloat16.
    """
    return part.float() if part.device.type == "cpu" and part.itemsize < 4 else part


class _Current(threading.local):
    """The memory that attention works on just now, in each thread."""

    memory: Memory


_current = _Current()


@contextmanager
def remembering(memory: Memory) -> Iterator[None]:
    """Let attention in this thread work on this memory."""
    _current.memory = memory
    try:
        yield
    finally:
        del _current.memory


def attention_of_memory(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention as transformers' attention interface wants it: rows x queries x heads x size.

    Raises `UnsuitableError` where the model asks for more than plain causal attention.
    """
    memory, window = _current.memory, options.get("sliding_window")
    if attention_mask is not None or any(options.get(name) is not None for name in ("softcap", "s_aux")):
        raise UnsuitableError("the model's attention is of another kind")
    if window is not None and window < memory.prefix_length + memory.capacity:
        raise UnsuitableError("the model's attention sees less than the prompt")
    scale = options.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    output = memory.attention(int(module.layer_idx), query, key, value, scale)  # type: ignore[arg-type]
    return output.transpose(1, 2).to(query.dtype), None
