"""The ledger: the append-only record of a search, one JSON object a line, on disk before anything depends on it.

A process that dies in mid-write leaves a torn last line; opening the ledger again drops it. This file knows nothing
about what the events mean beyond the first one, which carries the version of the format (`record.py` does).
"""

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evomerge.durable import append_line, unwritable
from evomerge.errors import UsageError, WorkError

# 2: fingerprints are made of eight bytes at a time. 3: a tell has the scores and marks of every item. 4: stages, races.
LEDGER_VERSION = 4

# How the line of a recipe begins, and what stands before and after the recipe in it. No text in JSON has a bare quote.
_ASK, _RECIPE, _AFTER = b'{"event":"ask",', b',"recipe":', b',"vector":'


class Ledger:
    """One run's ledger, open for appending by one process.

    Args:
        path: the file; made if it does not exist.

    Attributes:
        begin: the first event, None in an empty ledger.
        size: how many bytes the events take.

    Raises:
        UsageError: another process has it open, or it was written by a newer evomerge.
        WorkError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise unwritable(path, error) from None
        if not _lock(self._file):
            os.close(self._file)
            raise UsageError(f"{path.parent}: another process is searching in this run directory")
        check_version(path)
        self.size = _whole_lines(path)
        if self.size < path.stat().st_size:
            os.ftruncate(self._file, self.size)
        self.begin: Mapping[str, Any] | None = next(self.events(), None)
        self._hash = hashlib.sha256()
        self._hashed = 0
        self._synced = True

    def events(self) -> Iterator[dict[str, Any]]:
        """Read all events, one by one, as `parse` gives them; `UsageError` where the file is damaged in the middle."""
        return _parsed(self.path)

    def append(self, event: dict[str, Any]) -> None:
        """Write one event; it is safe from the death of this process at once, from that of the machine after `sync`.

        Raises `WorkError` if that fails, with the record left as it was, and if another process has written to the
        file: two may have it open where the file system has no locks.
        """
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._saying_what_failed():
            if os.fstat(self._file).st_size != self.size:
                raise WorkError(
                    f"{self.path}: another process has written to it: two searches run in this directory, and its file "
                    "system has no locks; this one ends, the other may go on"
                )
            append_line(self._file, line, sync=False)
        self.size += len(line)
        self._synced = False
        self.begin = self.begin or event

    def sync(self) -> None:
        """Wait until all events are on disk, `WorkError` if that fails."""
        if not self._synced:
            with self._saying_what_failed():
                os.fsync(self._file)
            self._synced = True

    def digest(self, size: int) -> str:
        """Return the hash of the first `size` bytes; quick where that is no less than the last time."""
        if size < self._hashed:
            self._hash, self._hashed = hashlib.sha256(), 0
        while self._hashed < size:
            data = os.pread(self._file, min(size - self._hashed, 1 << 20), self._hashed)
            if not data:
                raise WorkError(f"{self.path}: became shorter while a search wrote it")
            self._hash.update(data)
            self._hashed += len(data)
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file and let go of the lock; nothing happens the second time."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1

    @contextmanager
    def _saying_what_failed(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.path, error) from None


def is_open(path: Path) -> bool:
    """Say whether a process has a ledger open for appending; where the file system has no locks: no."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


def _lock(file: int) -> bool:
    """Lock a file for this process until it is closed; False if another process has it.

    Advisory, and let go by the kernel when the process dies; where a file system has no locks we do without. A reader
    that asks `is_open` holds it for an instant, so it is tried for a second.
    """
    end = time.monotonic() + 1.0
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        except OSError:
            return True
        else:
            return True


def read_events(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Read a ledger without opening it for writing.

    Returns the events and how many bytes they take (a torn last line is left out of both).
    """
    check_version(path)
    sizes: list[int] = []

    def read(line: bytes) -> dict[str, Any]:
        event: dict[str, Any] = json.loads(line)
        sizes.append(len(line))
        return event

    return list(_lines(path, read)), sum(sizes)


def parsed_events(path: Path) -> Iterator[dict[str, Any]]:
    """Read a ledger without opening it for writing, event by event, as `parse` gives them."""
    check_version(path)
    return _parsed(path)


def parse(line: bytes) -> dict[str, Any]:
    """Return the event of a line; what is large and seldom wanted, a recipe, stays the JSON text that it is."""
    start, end = line.find(_RECIPE), line.rfind(_AFTER)
    if not line.startswith(_ASK) or not 0 <= start < end:
        event: dict[str, Any] = json.loads(line)
        return event
    event = json.loads(line[:start] + line[end:])
    event["recipe"] = line[start + len(_RECIPE) : end]
    return event


def check_version(path: Path) -> None:
    """Raise `UsageError` if there is a ledger that another version wrote, without reading more than its first line."""
    if not path.exists():
        return
    with path.open("rb") as file:
        first = file.readline()
    if first.endswith(b"\n"):
        try:
            _check_version(path, json.loads(first))
        except ValueError:
            raise UsageError(f"{path}: line 1 is damaged; restore the file or start a new run") from None


def _parsed(path: Path) -> Iterator[dict[str, Any]]:
    return _lines(path, parse)


def _lines(path: Path, read: Callable[[bytes], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Read a file line by line; a torn last line is left out."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                yield read(line)
            except ValueError:
                raise UsageError(f"{path}: line {number} is damaged; restore the file or start a new run") from None


def _whole_lines(path: Path) -> int:
    """Return how many bytes the whole lines of a file take."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(end - (1 << 16), 0)
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def _check_version(path: Path, begin: dict[str, Any]) -> None:
    if begin.get("version") != LEDGER_VERSION:
        raise UsageError(
            f"{path}: written by another evomerge (version {begin.get('version')!r}, this one reads {LEDGER_VERSION}); "
            "start a new run in another directory"
        )
