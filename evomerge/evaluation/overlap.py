"""Whether the items of a task occur in given text, such as the data that a model was trained on: shared word n-grams.

The check of the GPT-3 paper (Brown et al. 2020, appendix C; arXiv:2005.14165), which lm-eval's decontamination follows:
n-grams of 13 words, in lower case and without punctuation, split at white space. Characters of scripts that are written
without spaces (Chinese, Japanese, Thai, ...) count as a word each.

Only the n-grams of the items are kept in memory; text is read in pieces and may be of any size. A 64-bit hash finds
the n-grams that may be the same, and each is then compared word by word, so the answer is exact. This file knows
nothing about models or scores.
"""

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evomerge.errors import UsageError
from evomerge.evaluation.data import read_rows
from evomerge.evaluation.types import SPLITS, Split

NGRAM = 13
_PIECE = 1 << 20  # characters of plain text that are read at a time
_WORDS = 1 << 20  # words that are compared at a time
_TABLE_BITS = 22  # of the table that says which hashes cannot be in the set

_SPACELESS = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

_Ids = NDArray[np.int64]


class Described(Protocol):
    """What is needed of a task."""

    @property
    def splits(self) -> Sequence[Split]:
        """The splits that have items."""

    def items(self, split: Split) -> Sequence[str]:
        """Return the ids of a split's items."""

    def text(self, item: str) -> str:
        """Return an item's own text: its part of the prompt, without instructions, examples and chat template."""


def overlap(
    tasks: Mapping[str, Described],
    files: Sequence[str | Path],
    *,
    n: int = NGRAM,
    threshold: float = 0.5,
    splits: Sequence[Split] = SPLITS,
) -> dict[str, Any]:
    """Find the items of tasks in text files.

    Args:
        tasks: task name -> task.
        files: plain text, or JSON Lines (`.jsonl`, `.ndjson`, `.json`), of which all strings are read.
        n: words of an n-gram.
        threshold: from which share of its n-grams on an item is listed.
        splits: whose items are looked for.

    Returns plain data: `n`, `threshold`, `files`, `words` (how many were read) and `tasks`, task name -> `shares` (item
    id -> the share of its n-grams that occur in the text, null for an item of fewer than n words), `found` (items of
    which some n-gram occurs) and `above` (those at or above the threshold), both with the largest share first.

    Raises `UsageError` for a file that is missing or is not what its name says, and for n or threshold out of range.
    """
    if n < 1 or not 0 < threshold <= 1:
        raise UsageError("overlap: n must be at least 1, and the threshold above 0 and at most 1")
    texts = {
        (name, item): task.text(item)
        for name, task in tasks.items()
        for split in task.splits
        if split in splits
        for item in task.items(split)
    }
    index = NgramIndex(list(texts.values()), n)
    for path in files:
        index.scan(read_text(path))
    by_task: dict[str, dict[str, Any]] = {name: {"shares": {}, "found": [], "above": []} for name in tasks}
    for (name, item), share in zip(texts, index.shares(), strict=True):
        by_task[name]["shares"][item] = share
    for result in by_task.values():
        shares = result["shares"]
        result["found"] = sorted((item for item, share in shares.items() if share), key=lambda i: (-shares[i], i))
        result["above"] = [item for item in result["found"] if shares[item] >= threshold]
    return {
        "n": n,
        "threshold": threshold,
        "files": [str(path) for path in files],
        "words": index.words_read,
        "tasks": by_task,
    }


def print_overlap(result: Mapping[str, Any], *, most: int = 20) -> None:
    """Print what `overlap` found: counts for each task, and the ids of up to `most` items above the threshold."""
    percent = f"{100 * result['threshold']:g} %"
    print(f"n-grams of {result['n']} words, in {result['words']:,} words of text")
    for name, task in result["tasks"].items():
        shares, found, above = task["shares"], task["found"], task["above"]
        short = sum(share is None for share in shares.values())
        print(
            f"{name}: {len(shares)} items, of {len(found)} some n-gram occurs, of {len(above)} at least {percent}"
            + (f" (too short to be looked for: {short})" if short else "")
        )
        for item in above[:most]:
            print(f"  {item}  {100 * shares[item]:.0f} %")
        if len(above) > most:
            print(f"  and {len(above) - most} more")


def words(text: str) -> list[str]:
    """Return the words of a text as they are compared: lower case, no punctuation, compatible characters made one."""
    return unicodedata.normalize("NFKC", text).lower().translate(_CHARACTERS).split()


class _Characters(dict[int, str]):
    """What becomes of a character, found out when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if _SPACELESS.match(character):
            kept = f" {character} "
        else:  # letters, marks on them, numbers and white space
            kept = character if unicodedata.category(character)[0] in "LMN" or character.isspace() else ""
        self[code] = kept
        return kept


_CHARACTERS = _Characters()


class NgramIndex:
    """The n-grams of some texts, and which of them have been seen elsewhere.

    Words are numbered from 1; 0 stands for any word that is in none of the texts, and for the end of a text, so that no
    n-gram reaches across it.
    """

    def __init__(self, texts: Sequence[str], n: int) -> None:
        self._n, self._texts = n, len(texts)
        self._numbers: dict[str, int] = {}
        stream: list[int] = []
        owners: list[int] = []
        for owner, text in enumerate(texts):
            numbers = [self._numbers.setdefault(word, len(self._numbers) + 1) for word in words(text)]
            stream += [*numbers, 0]
            owners += [owner] * (len(numbers) + 1)
        self._stream = np.array(stream, np.int64)
        starts = _starts(self._stream, n)
        self._owner = np.array(owners, np.int64)[starts]
        self._hash_all(starts)
        self._seen = np.zeros(len(self._hashes), bool)
        self._make_table()
        self.words_read = 0

    def _make_table(self) -> None:
        """Note which hashes an n-gram that is not seen yet may have."""
        self._table = np.zeros(1 << _TABLE_BITS, bool)
        self._table[self._hashes[~self._seen] >> np.uint64(64 - _TABLE_BITS)] = True

    def _hash_all(self, starts: _Ids) -> None:
        """Give every distinct n-gram a hash of its own, with other factors until no two share one."""
        random = np.random.default_rng(0)
        while True:
            self._factors = random.integers(1 << 64, size=self._n, dtype=np.uint64) | np.uint64(1)
            hashes = self._hash(self._stream, starts)
            self._hashes, first, self._ngram = np.unique(hashes, return_index=True, return_inverse=True)
            self._first = starts[first]
            if _same(self._stream, starts, self._stream, self._first[self._ngram], self._n).all():
                return

    def _hash(self, numbers: _Ids, starts: _Ids) -> NDArray[np.uint64]:
        total = np.zeros(len(starts), np.uint64)
        unsigned = numbers.astype(np.uint64)
        for offset, factor in enumerate(self._factors):
            total += unsigned[starts + offset] * factor
        # Mixed, since the table is addressed by the upper bits, which small numbers hardly reach alone.
        return (total ^ (total >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)

    def scan(self, pieces: Iterable[tuple[str, bool]]) -> None:
        """Look for the n-grams in a text, given in (piece, whether the text ends with it) pairs."""
        parts: list[_Ids] = [np.zeros(1, np.int64)]
        waiting = 0
        for text, ends in pieces:
            found = words(text)
            self.words_read += len(found)
            parts.append(np.fromiter(map(self._numbers.get, found, repeat(0)), np.int64, len(found)))
            if ends:
                parts.append(np.zeros(1, np.int64))
            waiting += len(found) + ends
            if waiting >= _WORDS:
                numbers = np.concatenate(parts)
                self._mark(numbers)
                parts, waiting = [numbers[len(numbers) - self._n + 1 :]], 0
        self._mark(np.concatenate(parts))

    def _mark(self, numbers: _Ids) -> None:
        starts = _starts(numbers, self._n)
        hashes = self._hash(numbers, starts)
        maybe = self._table[hashes >> np.uint64(64 - _TABLE_BITS)]
        starts, hashes = starts[maybe], hashes[maybe]
        if not len(starts):
            return
        place = np.minimum(np.searchsorted(self._hashes, hashes), len(self._hashes) - 1)
        equal = self._hashes[place] == hashes
        starts, place = starts[equal], place[equal]
        same = _same(numbers, starts, self._stream, self._first[place], self._n)
        if same.any():
            self._seen[place[same]] = True
            self._make_table()

    def shares(self) -> list[float | None]:
        """Return for each text the share of its n-grams that have been seen; None for one of fewer than n words."""
        counts = np.bincount(self._owner, minlength=self._texts)
        seen = np.bincount(self._owner, weights=self._seen[self._ngram], minlength=self._texts)
        return [float(s / c) if c else None for s, c in zip(seen.tolist(), counts.tolist(), strict=True)]


def _starts(numbers: _Ids, n: int) -> _Ids:
    """Where the runs of n numbers without a zero begin."""
    zeros = np.concatenate([[0], np.cumsum(numbers == 0)])
    return np.flatnonzero(zeros[n:] == zeros[:-n]) if len(numbers) >= n else np.zeros(0, np.int64)


def _same(a: _Ids, at: _Ids, b: _Ids, there: _Ids, n: int) -> NDArray[np.bool_]:
    """Which of the runs of n numbers of `a` and `b` that begin at these places are equal."""
    result = np.ones(len(at), bool)
    for offset in range(n):
        result &= a[at + offset] == b[there + offset]
    return result


def read_text(path: str | Path) -> Iterator[tuple[str, bool]]:
    """Read a file in (piece, whether its text ends with it) pairs; what is held is one piece, or one line of JSON."""
    path = Path(path).expanduser()
    try:
        with path.open(encoding="utf-8", errors="replace") as file:
            if path.suffix not in (".jsonl", ".ndjson", ".json"):
                yield from _pieces(iter(lambda: file.read(_PIECE), ""))
                return
            if path.suffix == ".json" and file.read(1) == "[":
                rows: Iterable[Any] = read_rows(path)
            else:
                file.seek(0)
                rows = _json_lines(path, file)
            for row in rows:
                for text in _strings(row):
                    yield text, True
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _pieces(chunks: Iterator[str]) -> Iterator[tuple[str, bool]]:
    """Cut at white space, so that no word is torn unless it is longer than a chunk."""
    rest = ""
    for chunk in chunks:
        text = rest + chunk
        cut = max(text.rfind(space) for space in " \n\t") + 1
        if not cut and len(text) > _PIECE:
            cut = len(text)
        if cut:
            yield text[:cut], False
        rest = text[cut:]
    yield rest, True


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[Any]:
    for number, line in enumerate(lines, start=1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise UsageError(f"{path}, line {number}, is not JSON: {error}") from None


def _strings(value: Any) -> Iterator[str]:
    """All strings in plain data, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _strings(child)
    elif isinstance(value, list):
        for child in value:
            yield from _strings(child)
