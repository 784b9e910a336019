"""How many prompts are answered together: found from the memory at hand, then fixed, since rounding depends on it.

This file knows nothing about prompts or tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

from evomerge.checkpoints.placement import placement
from evomerge.memory import available_memory

#: Most rows of a batch where the user names no number: beyond it a step takes as much longer as it has more rows.
MOST_ROWS = {"cpu": 256, "cuda": 512}
#: The share of the memory that is free which keys and values may take; the rest is for activations and logits.
CACHE_SHARE = {"cpu": 0.25, "cuda": 0.6}


#: Parameters of a model whose steps are too short for a CPU's threads to share.
SMALL = 2**26


@dataclass(frozen=True)
class Batching:
    """The shape of batches: at most so many rows, and so many tokens of keys and values, in so many streams.

    A batch's streams are answered side by side, each by a thread of its own.
    """

    rows: int
    tokens: int
    streams: int

    @classmethod
    def of(cls, model: PreTrainedModel, batch_size: int | str = "auto") -> "Batching":
        """Find the shape for a model on its device, from the memory that is free now.

        The number of tokens is rounded down to a power of two, so that a little more or less memory changes nothing.
        """
        devices = placement(model).devices
        kind = devices[0].type
        free = min(_free(device) for device in devices)
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        each = 2 * config.num_hidden_layers * heads * size * kept_bytes(model.dtype.itemsize, kind)
        tokens = int(free * CACHE_SHARE.get(kind, 0.25)) // each
        rows = MOST_ROWS.get(kind, 256) if batch_size == "auto" else int(batch_size)
        small = kind == "cpu" and sum(parameter.numel() for parameter in model.parameters()) <= SMALL
        return cls(rows, 1 << max(0, tokens.bit_length() - 1), torch.get_num_threads() if small else 1)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Batching":
        """Build from plain data."""
        return cls(int(data["rows"]), int(data["tokens"]), int(data["streams"]))

    def to_dict(self) -> dict[str, int]:
        """Return plain data."""
        return asdict(self)


def kept_bytes(itemsize: int, kind: str) -> int:
    """Return the bytes of each of the keys and values of a model whose numbers take `itemsize`."""
    return max(4, itemsize) if kind == "cpu" else itemsize  # see `kept` in decoding/memory.py


def _free(device: torch.device) -> int:
    return int(torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else available_memory())


def cut(indices: Sequence[int], sizes: Sequence[int], batching: Batching) -> list[list[int]]:
    """Cut indices, whose rows take `sizes` tokens each, longest first, into batches; a batch has at least one row."""
    result: list[list[int]] = []
    place = 0
    while place < len(indices):
        rows = max(1, min(batching.rows, batching.tokens // sizes[place]))
        result.append(list(indices[place : place + rows]))
        place += rows
    return result
