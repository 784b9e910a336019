"""The tokens of a model: its tokenizer file read, and compared with another's.

Vocabulary, merge rules and added tokens decide which row of the embeddings a piece of text becomes. What a chat model
changes without harm (which token ends a turn, templates, padding) is not compared. This file knows nothing about
weights.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

TOKENIZER = "tokenizer.json"
# Without tokenizer.json: files that must be equal byte by byte.
_OTHER_FILES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")


@dataclass(frozen=True)
class Tokens:
    """A parsed tokenizer.json.

    Attributes:
        path: the file.
        data: what it holds.
    """

    path: Path
    data: dict[str, Any]

    @classmethod
    def read(cls, directory: Path) -> "Tokens | None":
        """Read a model directory's tokenizer.json; None if there is none, `ValueError` naming it if it is damaged."""
        path = directory / TOKENIZER
        return _parse(path, path.read_bytes()) if path.is_file() else None

    @cached_property
    def core(self) -> dict[str, Any]:
        """The model's own vocabulary: token -> number; for unigram models, token -> (number, score)."""
        vocabulary = self.data["model"].get("vocab") or {}
        if isinstance(vocabulary, dict):
            return vocabulary
        return {str(pair[0]): (number, pair[1]) for number, pair in enumerate(vocabulary)}

    @cached_property
    def added(self) -> dict[str, int]:
        """Added token -> number."""
        return {str(token.get("content")): token.get("id") for token in self.data.get("added_tokens") or []}

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Every token -> number; `ValueError` if a number is none."""
        core = {token: value[0] if isinstance(value, tuple) else value for token, value in self.core.items()}
        numbers = {**core, **self.added}
        for token, number in numbers.items():
            if type(number) is not int or number < 0:
                raise ValueError(f"{self.path}: token {token!r} has number {number!r}")
        return numbers

    def core_difference(self, other: "Tokens") -> str | None:
        """Return the first difference of another's kind, vocabulary or merge rules, in words, or None."""
        kinds = self.data["model"].get("type"), other.data["model"].get("type")
        if kinds[0] != kinds[1]:
            return f"model {kinds[0]} against {kinds[1]}"
        rules = self.data["model"].get("merges") or [], other.data["model"].get("merges") or []
        return _compare_tokens(self.core, other.core, "token") or _compare_merges(*rules)

    def difference(self, other: "Tokens") -> str | None:
        """Return the first difference of another's, added tokens included, in words, or None."""
        return self.core_difference(other) or _compare_tokens(self.added, other.added, "added token")


def tokenizer_difference(first: Path, second: Path) -> str | None:
    """Return the first difference between the tokenizers of two model directories, in words, or None.

    A directory without tokenizer files agrees with every other: its weights were saved alone. Raises `ValueError` with
    the file's name if one is not valid JSON.
    """
    one, two = first / TOKENIZER, second / TOKENIZER
    if one.is_file() and two.is_file():
        a, b = one.read_bytes(), two.read_bytes()
        return None if a == b else _parse(one, a).difference(_parse(two, b))
    for name in _OTHER_FILES:
        if (first / name).is_file() and (second / name).is_file():
            if (first / name).read_bytes() != (second / name).read_bytes():
                return f"{name} differs"
            return None
    return None


def _parse(path: Path, data: bytes) -> Tokens:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not valid JSON") from None
    tokens = Tokens(path, parsed)
    try:
        sane = all(isinstance(rule, str | list) for rule in parsed["model"].get("merges") or [])
        _ = tokens.core, tokens.added
    except (TypeError, KeyError, IndexError, AttributeError):
        sane = False
    if not sane:
        raise ValueError(f"{path}: not a tokenizer file")
    return tokens


def _compare_tokens(a: dict[str, Any], b: dict[str, Any], what: str) -> str | None:
    if a == b:
        return None
    token = min(token for token in a.keys() | b.keys() if a.get(token) != b.get(token))
    return f"{what} {token!r} is {_number(a.get(token))} against {_number(b.get(token))}"


def _number(number: Any) -> str:
    return "missing" if number is None else f"number {number}"


def _compare_merges(a: list[Any], b: list[Any]) -> str | None:
    # Older files write a merge as "a b", newer ones as ["a", "b"].
    one, two = ([m if isinstance(m, str) else " ".join(m) for m in merges] for merges in (a, b))
    if one == two:
        return None
    if len(one) != len(two):
        return f"{len(one)} merge rules against {len(two)}"
    return next(
        f"merge rule {i} is {x!r} against {y!r}" for i, (x, y) in enumerate(zip(one, two, strict=True)) if x != y
    )
