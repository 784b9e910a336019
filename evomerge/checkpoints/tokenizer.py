"""Whether two models read text the same way: a comparison of their tokenizer files.

Vocabulary, merge rules and added tokens must agree, since a token's number is a row of the embeddings. What a chat
model changes without harm (which token ends a turn, templates, padding) is not compared. This file knows nothing about
weights.
"""

import json
from pathlib import Path
from typing import Any

# Without tokenizer.json: files that must be equal byte by byte.
_OTHER_FILES = ("tokenizer.model", "vocab.json", "merges.txt", "vocab.txt")


def tokenizer_difference(first: Path, second: Path) -> str | None:
    """Return the first difference between the tokenizers of two model directories, in words, or None.

    A directory without tokenizer files agrees with every other: its weights were saved alone. Raises `ValueError` with
    the file's name if one is not valid JSON.
    """
    one, two = first / "tokenizer.json", second / "tokenizer.json"
    if one.is_file() and two.is_file():
        a, b = one.read_bytes(), two.read_bytes()
        return None if a == b else _compare(_parse(one, a), _parse(two, b))
    for name in _OTHER_FILES:
        if (first / name).is_file() and (second / name).is_file():
            if (first / name).read_bytes() != (second / name).read_bytes():
                return f"{name} differs"
            return None
    return None


def _parse(path: Path, data: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not valid JSON") from None
    if not isinstance(parsed, dict) or not isinstance(parsed.get("model"), dict):
        raise ValueError(f"{path}: not a tokenizer file")
    return parsed


def _compare(a: dict[str, Any], b: dict[str, Any]) -> str | None:
    kinds = a["model"].get("type"), b["model"].get("type")
    if kinds[0] != kinds[1]:
        return f"model {kinds[0]} against {kinds[1]}"
    return (
        _compare_tokens(_vocabulary(a), _vocabulary(b), "token")
        or _compare_tokens(_added(a), _added(b), "added token")
        or _compare_merges(a["model"].get("merges") or [], b["model"].get("merges") or [])
    )


def _vocabulary(tokenizer: dict[str, Any]) -> dict[str, Any]:
    """Token -> number; unigram models list [token, score] pairs in order."""
    vocabulary = tokenizer["model"].get("vocab") or {}
    if isinstance(vocabulary, dict):
        return vocabulary
    return {str(pair[0]): (number, pair[1]) for number, pair in enumerate(vocabulary)}


def _added(tokenizer: dict[str, Any]) -> dict[str, Any]:
    return {str(token.get("content")): token.get("id") for token in tokenizer.get("added_tokens") or []}


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
