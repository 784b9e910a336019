"""The ledger: the append-only record of a search, one JSON object a line, on disk before anything depends on it.

A process that dies in mid-write leaves a torn last line; opening the ledger again drops it. This file knows nothing
about what the events mean beyond the first one, which carries the version of the format (`record.py` does).
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from evomerge.durable import append_line
from evomerge.errors import UsageError, WorkError

# 2: fingerprints are made of eight bytes at a time. 3: a tell has the scores and marks of every item. 4: stages, races.
LEDGER_VERSION = 4


class Ledger:
    """One run's ledger, open for appending by one process.

    Args:
        path: the file; made if it does not exist.

    Raises:
        UsageError: another process has it open, or it was written by a newer evomerge, or it is damaged in the middle.
        WorkError: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise WorkError(f"{path}: cannot be written: {error.strerror}") from None
        if not _lock(self._file):
            os.close(self._file)
            raise UsageError(f"{path.parent}: another process is searching in this run directory")
        self.events, good = read_events(path)
        if good < path.stat().st_size:
            os.ftruncate(self._file, good)

    def append(self, event: dict[str, Any]) -> None:
        """Write one event and wait until it is on disk; `WorkError` if that fails, with the record left as it was."""
        line = json.dumps(event, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        try:
            append_line(self._file, line)
        except OSError as error:
            raise WorkError(
                f"{self.path}: cannot be written: {error.strerror or error}; what was recorded is safe, "
                "the same command goes on from there"
            ) from None
        self.events.append(event)

    def close(self) -> None:
        """Close the file and let go of the lock; nothing happens the second time."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


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
    data = path.read_bytes()
    end = data.rfind(b"\n") + 1
    events: list[dict[str, Any]] = []
    for number, line in enumerate(data[:end].splitlines(), start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            raise UsageError(f"{path}: line {number} is damaged; restore the file or start a new run") from None
    if events:
        _check_version(path, events[0])
    return events, end


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


def _check_version(path: Path, begin: dict[str, Any]) -> None:
    if begin.get("version") != LEDGER_VERSION:
        raise UsageError(
            f"{path}: written by another evomerge (version {begin.get('version')!r}, this one reads {LEDGER_VERSION}); "
            "start a new run in another directory"
        )
