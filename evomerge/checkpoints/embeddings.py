"""The embeddings of a merge whose models number tokens differently: each model's rows, brought into one order.

Reads the tokenizers, has the rows matched (`vocabulary.py`), and makes the sources of the matrices that have one row a
token. What cannot be matched is refused before anything is computed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evomerge.checkpoints.checkpoint import Checkpoint
from evomerge.checkpoints.model import Model
from evomerge.checkpoints.rows import MemorySource, RowSource
from evomerge.checkpoints.source import TensorSource
from evomerge.checkpoints.tokenizer import Tokens
from evomerge.checkpoints.tokenizer_edit import TokenizerEdit, removable_tokens
from evomerge.checkpoints.vocabulary import NONE, RowMaps, match_rows
from evomerge.errors import UsageError
from evomerge.recipes.groups import place

#: label (`""`: the base) -> name -> the tensor in its place.
Sources = dict[str, dict[str, TensorSource]]


@dataclass(frozen=True)
class Embeddings:
    """The matched vocabularies of a base and its experts; made by `match`.

    Attributes:
        rows: which row comes from where.
        names: the tensors with one row a token.
        edit: what changes in the base's tokenizer; None if nothing does.
        numbers: label -> token -> number, of the experts that have a tokenizer.
    """

    rows: RowMaps
    names: tuple[str, ...]
    edit: TokenizerEdit | None
    numbers: Mapping[str, Mapping[str, int]]

    @classmethod
    def match(cls, choice: str, base: Checkpoint, experts: Mapping[str, Model], sources: Sources) -> "Embeddings":
        """Match the vocabularies; `UsageError` naming the expert whose core vocabulary is another.

        Args:
            choice: base, union or intersection.
            base, experts: the models.
            sources: tensors that already take another's place (tied heads); those of the embeddings are added to it.
        """
        ours = _tokens("base", base.path)
        if ours is None:
            raise UsageError(f"base {base.path}: has no tokenizer.json, without which rows cannot be matched to tokens")
        names = vocabulary_tensors(base)
        theirs = {label: _tokens(f"expert {label!r}", model.path) for label, model in experts.items()}
        for label, tokens in theirs.items():
            difference = tokens and ours.core_difference(tokens)
            if difference:
                raise UsageError(
                    f"expert {label!r}: the core of its tokenizer differs from the base's: {difference} (base against "
                    "expert); only added tokens may differ"
                )

        def source(label: str, name: str) -> TensorSource:
            model = experts[label] if label else base
            return sources.get(label, {}).get(name) or model.source(name)

        heights = {label: _height(label, [source(label, name).shape for name in names]) for label in ("", *experts)}
        known = {label: tokens.numbers if tokens else ours.numbers for label, tokens in theirs.items()}
        rows = match_rows(
            choice,
            ours.numbers,
            heights[""],
            {label: (numbers, heights[label]) for label, numbers in known.items()},
            removable_tokens(ours, base.config),
        )
        for name in names:
            replaced = _rows_of(rows, {label: source(label, name) for label in ("", *experts)})
            for label, tensor in replaced.items():
                sources.setdefault(label, {})[name] = tensor
        edit = None
        if rows.report.appended or rows.report.removed:
            entries = [_entry(token, number, theirs) for token, number in rows.report.appended.items()]
            edit = TokenizerEdit(ours, tuple(entries), rows.report.removed)
            edit.check(rows.tokens)
        return cls(rows, names, edit, {label: tokens.numbers for label, tokens in theirs.items() if tokens})

    def config(self, base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the merged model's config: the base's, with the new number of rows."""
        config = dict(base)
        if "vocab_size" in config:
            config["vocab_size"] = self.rows.report.rows
        if isinstance(config.get("text_config"), dict) and "vocab_size" in config["text_config"]:
            config["text_config"] = {**config["text_config"], "vocab_size": self.rows.report.rows}
        return config


def vocabulary_tensors(base: Checkpoint) -> tuple[str, ...]:
    """Return the tensors with one row a token: those of embeddings and head with as many rows as the config says."""
    text = base.config.get("text_config")
    size = base.config.get("vocab_size", text.get("vocab_size") if isinstance(text, dict) else None)
    named = (name for name in base.names if place(name).kind in ("embeddings", "head"))
    found = tuple(name for name in named if base.shape(name)[:1] == (size,))
    if not found:
        raise UsageError(f"base {base.path}: no embeddings have {size} rows, which its config.json says (vocab_size)")
    return found


def _tokens(what: str, path: Path) -> Tokens | None:
    try:
        tokens = Tokens.read(path)
        if tokens:
            _ = tokens.numbers  # refuses what is no number
    except (ValueError, OSError) as error:
        raise UsageError(f"{what}: cannot read its tokenizer: {error}") from None
    if tokens is None and (path / "tokenizer.model").is_file():
        raise UsageError(f"{what}: has no tokenizer.json; save its tokenizer with transformers (save_pretrained)")
    return tokens


def _height(label: str, shapes: list[tuple[int, ...]]) -> int:
    heights = {shape[0] for shape in shapes}
    if len(heights) > 1:
        what = f"expert {label!r}" if label else "base"
        raise UsageError(f"{what}: its embeddings have {min(heights)} rows, its head {max(heights)}; resize them alike")
    return heights.pop()


def _rows_of(rows: RowMaps, tensors: Mapping[str, TensorSource]) -> dict[str, TensorSource]:
    """Return label -> the tensor with the merged model's rows, where that is not the tensor itself."""
    base = tensors[""]
    count = rows.report.rows
    width = base.shape[1:]
    means = [_mean([_row(tensors[label], row) for label, row in holders]) for holders in rows.means.values()]
    ours: TensorSource = base
    if means:
        origins, numbers = np.zeros(count, dtype=np.int64), np.arange(count)
        for i, number in enumerate(rows.report.appended.values()):
            origins[number], numbers[number] = 1, i
        ours = RowSource([base, MemorySource(torch.stack(means).view(-1, *width))], origins, numbers)
    replaced = {} if ours is base else {"": ours}
    for label, origin in rows.maps.items():
        theirs = tensors[label]
        if count == theirs.shape[0] and np.array_equal(origin, np.arange(count)):
            continue
        lacking = origin == NONE
        replaced[label] = RowSource(
            [theirs, ours], lacking.astype(np.int64), np.where(lacking, np.arange(count), origin)
        )
    return replaced


def _row(tensor: TensorSource, row: int) -> torch.Tensor:
    width = int(np.prod(tensor.shape[1:], dtype=np.int64))
    return tensor.read(row * width, (row + 1) * width).float()


def _mean(rows: list[torch.Tensor]) -> torch.Tensor:
    total = rows[0]
    for row in rows[1:]:
        total = total + row
    return total / len(rows)


def _entry(token: str, number: int, experts: Mapping[str, Tokens | None]) -> dict[str, Any]:
    """Return an added token's entry as the first expert that has it wrote it, under its new number."""
    entries = (e for tokens in experts.values() if tokens for e in tokens.data.get("added_tokens") or [])
    return {**next(entry for entry in entries if entry.get("content") == token), "id": number}
