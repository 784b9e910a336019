"""Which row of each model's embeddings belongs to which token of the merged model.

Fine-tunes of one base share its core vocabulary and differ in the tokens that were added to it, in their order, and in
how far the matrices were padded. Rows are matched by the token's text; what the merged model's tokens are is a choice:

    base          the base's tokens and rows; what only experts have is dropped
    union         the base's, and after them what only experts have, in label order: first in unused padding rows, then
                  in new ones
    intersection  the base's rows; added tokens that some expert lacks are removed from the tokenizer

Where a model has no row of its own for a token, its row is the base's, so that its task vector is zero there; the
base's row of a token that it lacks is the mean of the experts' rows. This file knows numbers of rows only, no tensors,
no files.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evomerge.errors import UsageError

CHOICES = ("base", "union", "intersection")
#: In a row map: the model has no row of its own here.
NONE = -1


@dataclass(frozen=True)
class ExpertRows:
    """How one expert's rows became rows of the merged model.

    Every row of the merged model is one of: `matched` (the expert's row of that token, at the same number), `moved` (at
    another number), `filled` (the base's row: the expert lacks the token, or the token was removed), or padding. Every
    token of the expert that has a row is matched, moved or `dropped`.
    """

    matched: int
    moved: tuple[str, ...]
    filled: tuple[str, ...]
    dropped: tuple[str, ...]
    padding: int


@dataclass(frozen=True)
class VocabularyReport:
    """What became of the vocabularies.

    Attributes:
        choice: base, union or intersection.
        rows: rows of the merged embeddings.
        appended: tokens that only experts have -> their number in the merged model.
        removed: tokens that were removed from the tokenizer -> their number in the base.
        experts: label -> what became of its rows.
    """

    choice: str
    rows: int
    appended: Mapping[str, int]
    removed: Mapping[str, int]
    experts: Mapping[str, ExpertRows]


@dataclass(frozen=True)
class RowMaps:
    """Where the rows of the merged embeddings come from.

    Attributes:
        tokens: text -> number in the merged model.
        maps: label -> for each merged row the expert's own row, or `NONE`.
        means: appended token -> [(label, row)] whose mean is the base's row of it.
        report: the same in words.
    """

    tokens: Mapping[str, int]
    maps: Mapping[str, np.ndarray]
    means: Mapping[str, list[tuple[str, int]]]
    report: VocabularyReport


def match_rows(
    choice: str,
    base: Mapping[str, int],
    base_rows: int,
    experts: Mapping[str, tuple[Mapping[str, int], int]],
    removable: frozenset[str],
) -> RowMaps:
    """Match the rows of experts to those of the merged model.

    Args:
        choice: one of `CHOICES`.
        base: text -> number of the base's tokens.
        base_rows: rows of its embeddings, padding included.
        experts: label -> (text -> number, rows).
        removable: tokens that may be removed: added ones that no setting of the base names.

    Raises `UsageError` for a union with a base that has tokens without a row.
    """
    experts = dict(sorted(experts.items()))
    own = {label: {t: n for t, n in ids.items() if n < rows} for label, (ids, rows) in experts.items()}
    appended: dict[str, int] = {}
    if choice == "union":
        free = max(base.values(), default=-1) + 1
        if free > base_rows:
            raise UsageError("the base's tokenizer has tokens beyond its embeddings; take vocabulary base instead")
        for ids in own.values():
            for token in sorted(ids, key=lambda t: (ids[t], t)):
                if token not in base and token not in appended:
                    appended[token] = free + len(appended)
    removed = {
        token: base[token]
        for token in sorted(removable & base.keys() if choice == "intersection" else ())
        if any(token not in ids for ids in own.values())
    }
    tokens = {**{t: n for t, n in base.items() if t not in removed}, **appended}
    rows = max(base_rows, max(appended.values(), default=-1) + 1)
    holders = _holders({**base, **appended}, rows)
    maps, accounts = {}, {}
    for label, ids in own.items():
        maps[label], accounts[label] = _match_one(holders, removed, ids, experts[label][1])
    means = {token: [(label, ids[token]) for label, ids in own.items() if token in ids] for token in appended}
    return RowMaps(tokens, maps, means, VocabularyReport(choice, rows, appended, removed, accounts))


def _holders(tokens: Mapping[str, int], rows: int) -> list[str | None]:
    """Return the token of each row; of two at one number, the first in the order of their texts."""
    holders: list[str | None] = [None] * rows
    for token in sorted(tokens, reverse=True):
        if tokens[token] < rows:
            holders[tokens[token]] = token
    return holders


def _match_one(
    holders: list[str | None], removed: Mapping[str, int], ids: Mapping[str, int], rows: int
) -> tuple[np.ndarray, ExpertRows]:
    """Return an expert's row for each merged row, and the account of it."""
    origin = np.full(len(holders), NONE, dtype=np.int64)
    taken = set(ids.values())
    moved, filled, padding = [], [], 0
    for row, token in enumerate(holders):
        if token is None:
            padding += 1
            if row < rows and row not in taken:  # padding in both: the expert's own, as when vocabularies agree
                origin[row] = row
        elif token in removed or token not in ids:
            filled.append(token)
        else:
            origin[row] = ids[token]
            if ids[token] != row:
                moved.append(token)
    matched = len(holders) - padding - len(filled) - len(moved)
    used = set(origin.tolist())
    dropped = tuple(sorted(token for token, row in ids.items() if row not in used))
    return origin, ExpertRows(matched, tuple(moved), tuple(filled), dropped, padding)
