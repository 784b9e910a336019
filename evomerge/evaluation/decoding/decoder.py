"""Greedy decoding and scoring of token rows by a live model of transformers.

The keys and values of a prefix that all rows share are computed once and kept until the weights change; rows are
filled in parts of bounded size, decoded together one token at a time, and leave when they are done. The arithmetic is
the model's own but for the order of sums in attention. This file knows nothing about text.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from evomerge.checkpoints.placement import placement
from evomerge.evaluation.decoding.graph import Graph
from evomerge.evaluation.decoding.memory import Memory, Pair, UnsuitableError, attention_of_memory, remembering

#: Tokens of a forward pass that fills rows: enough to keep the processor busy, few enough for its caches.
FILL_TOKENS = {"cpu": 4096, "cuda": 16384}
#: Logits of a forward pass that scores rows: a gigabyte in float32.
LOGITS = 2**28
#: A prefix shorter than this is not worth a pass of its own.
SHORTEST_PREFIX = 16

_ATTENTION = "evomerge_memory"
ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, attention_of_memory)


class Decoder:
    """Decodes with a model whose weights may change between calls.

    Attributes:
        suitable: whether this model can be decoded here: its attention is of the usual kind, and a trial gave the
            logits of its own forward pass.
        still: whether steps are alike, as CUDA graphs of them need it; rows should then leave many at a time.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        placed = placement(model)
        self.model, self.device = model, placed.entry
        # A CUDA graph keeps addresses, which do not change only where the whole model stays on one GPU.
        self.still = placed.entry.type == "cuda" and len(placed.devices) == 1 and not placed.offloaded
        self._prefixes: dict[tuple[int, ...], list[Pair]] = {}
        configs = [module.config for module in model.modules() if hasattr(module, "config")]
        self._configs = list({id(config): config for config in configs}.values())
        self._lock, self._inside = threading.RLock(), 0
        self.suitable = self._try()

    def weights_changed(self) -> None:
        """Forget the prefixes."""
        self._prefixes.clear()

    # -- decoding ------------------------------------------------------------------------------------------------------

    def start(self, rows: Sequence[Sequence[int]], prefix: Sequence[int], more: int) -> "Decoding":
        """Begin to decode rows of tokens, each longer than `prefix`, which all begin with, by at most `more` tokens.

        Raises `UnsuitableError` if the model's attention does not see all of so long a row.
        """
        with self._attention():
            kept = self._prefix(tuple(prefix)) if len(prefix) >= SHORTEST_PREFIX else []
            cut = len(prefix) if kept else 0
            own = [list(row[cut:]) for row in rows]
            # The last token of each row is left to the first step, so that one kind of step gives all logits.
            memory = Memory([len(row) - 1 for row in own], more, kept, device=self.device, still=self.still)
            self._fill(memory, [row[:-1] for row in own])
        return Decoding(self, memory, torch.tensor([row[-1] for row in own], device=self.device))

    def _prefix(self, tokens: tuple[int, ...]) -> list[Pair]:
        with self._lock:
            if tokens not in self._prefixes:
                memory = Memory([len(tokens)], 0, [], device=self.device)
                self._fill(memory, [list(tokens)])
                self._prefixes[tokens] = memory.as_prefix()
            return self._prefixes[tokens]

    def _fill(self, memory: Memory, rows: list[list[int]]) -> None:
        """Compute the keys and values of rows from their beginning."""
        limit = FILL_TOKENS.get(self.device.type, 4096)
        for first, last in parts([len(row) for row in rows], limit):
            padded = self._pad(rows[first:last])
            memory.fill(first, last)
            self._forward(memory, padded, self._positions(memory, padded), keep=1)

    def _forward(self, memory: Memory, tokens: Tensor, positions: Tensor, *, keep: int) -> Tensor:
        """Return the logits (rows x keep x vocabulary) of the last `keep` of some tokens (rows x queries)."""
        with remembering(memory):
            output = self.model(
                input_ids=tokens,
                position_ids=positions,
                past_key_values=memory,
                use_cache=True,
                logits_to_keep=keep,
            )
        logits: Tensor = output.logits
        return logits

    def _pad(self, rows: Sequence[Sequence[int]]) -> Tensor:
        width = max(1, *map(len, rows))
        return torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=self.device)

    def _positions(self, memory: Memory, tokens: Tensor) -> Tensor:
        first = memory.prefix_length
        return torch.arange(first, first + tokens.shape[1], device=tokens.device)[None].expand(len(tokens), -1)

    @contextmanager
    def _attention(self) -> Iterator[None]:
        """Let the model's attention be the memory's, as long as a thread is in here."""
        with self._lock:
            if not self._inside:
                self._before = [config._attn_implementation for config in self._configs]
                for config in self._configs:
                    config._attn_implementation = _ATTENTION
            self._inside += 1
        try:
            with torch.inference_mode():
                yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    for config, name in zip(self._configs, self._before, strict=True):
                        config._attn_implementation = name

    # -- scoring -------------------------------------------------------------------------------------------------------

    def score(self, rows: Sequence[Sequence[int]], starts: Sequence[int], prefix: Sequence[int]) -> Iterator[Tensor]:
        """Yield for each row the logits (targets x vocabulary, float32) of its tokens from its start on.

        Args:
            rows: rows of tokens, each longer than `prefix`, which all begin with.
            starts: the first place of each row whose token is asked for: the logits are those after the token before.
            prefix: tokens that all rows begin with.
        """
        # The logits after the prefix itself are not kept with it.
        usable = SHORTEST_PREFIX <= len(prefix) <= min(starts) - 1
        with self._attention():
            kept = self._prefix(tuple(prefix)) if usable else []
        cut = len(prefix) if kept else 0
        own = [list(row[cut:-1]) for row in rows]
        asked = [start - cut - 1 for start in starts]  # the place in `own` whose logits come first
        limit = min(FILL_TOKENS.get(self.device.type, 4096), max(1, LOGITS // self._vocabulary_size))
        for first, last in parts([len(row) for row in own], limit):
            padded = self._pad(own[first:last])
            memory = Memory([len(row) for row in own[first:last]], 0, kept, device=self.device)
            memory.fill(first=0, last=last - first)
            begin = min(asked[first:last])
            with self._attention():  # not while others have the logits
                positions = self._positions(memory, padded)
                logits = self._forward(memory, padded, positions, keep=padded.shape[1] - begin)
            for row, place, one in zip(own[first:last], asked[first:last], logits, strict=True):
                yield one[place - begin : len(row) - begin].float()

    @property
    def _vocabulary_size(self) -> int:
        return int(self.model.config.get_text_config().vocab_size)

    # -- trial ---------------------------------------------------------------------------------------------------------

    def _try(self) -> bool:
        """Decode made-up rows here and by the model's own forward pass, and compare the logits."""
        tokens = [(7919 * place) % self._vocabulary_size for place in range(40)]
        rows = [tokens, tokens[:33], [*tokens[:30], *tokens[:5]]]
        try:
            decoding = self.start(rows, tokens[:20], more=3)
            found = [decoding.logits()]
            found.append(decoding.logits(found[0].argmax(dim=-1)))
        except (UnsuitableError, TypeError, AttributeError, KeyError, ValueError, RuntimeError):
            return False
        self._prefixes.clear()
        for place, row in enumerate(rows):
            with torch.inference_mode():
                whole = torch.tensor([[*row, int(found[0][place].argmax())]], device=self.device)
                own = self.model(input_ids=whole, use_cache=False).logits[0, -2:].float()
            mine = torch.stack([logits[place] for logits in found]).float()
            tolerance = 1e-3 if self.model.dtype == torch.float32 else 0.1
            if not torch.allclose(mine, own, rtol=0.0, atol=tolerance * float(own.abs().max())):
                return False
        return True


class Decoding:
    """Rows that are being decoded together."""

    def __init__(self, decoder: Decoder, memory: Memory, last: Tensor) -> None:
        self._decoder, self._memory, self._last = decoder, memory, last
        self._graph: Graph | None = None

    def logits(self, tokens: Tensor | None = None) -> Tensor:
        """Add a token to each row (the rows' own last ones at first) and return the logits (rows x vocabulary).

        They are good until the next call.
        """
        last = self._last if tokens is None else tokens
        with self._decoder._attention():
            positions = self._memory.step()
            if not self._memory.capturable:
                return self._step(last[:, None], positions)
            if self._graph is None or self._graph.shape != self._memory.shape:
                self._graph = Graph(self._step, last[:, None], positions, shape=self._memory.shape)
            return self._graph.replay(last[:, None], positions)

    def _step(self, tokens: Tensor, positions: Tensor) -> Tensor:
        return self._decoder._forward(self._memory, tokens, positions, keep=1)[:, -1]

    def drop(self, gone: list[int]) -> list[int]:
        """Let rows leave; returns for each remaining place the place that its row had before."""
        with torch.inference_mode():
            return self._memory.drop(gone)


def parts(lengths: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    """Cut rows into runs (first, last + 1) of at most `limit` tokens with padding, at least one row each."""
    first, width = 0, 0
    for row, length in enumerate(lengths):
        wider = max(width, length, 1)
        if row > first and wider * (row + 1 - first) > limit:
            yield first, row
            first, wider = row, max(length, 1)
        width = wider
    if lengths:
        yield first, len(lengths)
