"""The runs below a folder, as each says of itself in its `status.json`, and whether that still holds.

A process that was killed cannot say so: whether one is still there is asked of the lock on its ledger, of the process
table where it ran on this host, and of the age of its last word. Nothing heavy is read, so that hundreds of runs are
listed at once. This file knows nothing about how runs are shown.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from evomerge.errors import UsageError
from evomerge.search.ledger import is_open

#: Seconds: a search that lives writes its status at least every ten.
SILENT = 60.0

#: starting: a process has the run, and has not said more yet; hung: it is there but says nothing (stopped, or its disk
#: is full); dead: it is gone without a word; unknown: the run says nothing of itself, and nobody is at it.
State = Literal["starting", "running", "hung", "dead", "interrupted", "failed", "finished", "unknown"]


@dataclass(frozen=True)
class Run:
    """A run as it is seen from outside.

    Attributes:
        path: the run directory.
        state: see `State`.
        age: seconds since its last word, None if there is none.
        status: what it says of itself (`watch/status.py`), empty if it has said nothing.
    """

    path: Path
    state: State
    age: float | None
    status: Mapping[str, Any]

    @property
    def seconds_left(self) -> Mapping[str, float] | None:
        """About how long it will take still (low, expected, high), counted from now; None if that is not known."""
        left = self.status.get("seconds_left")
        if self.state != "running" or left is None:
            return None
        return {name: max(0.0, value - (self.age or 0.0)) for name, value in left.items()}

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain data."""
        return {
            "path": str(self.path),
            "state": self.state,
            "age": None if self.age is None else round(self.age, 1),
            "seconds_left": self.seconds_left,
            "status": dict(self.status) or None,
        }


def find_runs(folder: Path) -> list[Run]:
    """Return all runs in a folder and below, by path; `UsageError` if there is none."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no run here (no such folder)")
    found = []
    for path, below, files in os.walk(folder):
        if "ledger.jsonl" in files or "status.json" in files:
            found.append(look_at(Path(path)))
            below.clear()  # what a run keeps there is no run
        below.sort()
    if not found:
        raise UsageError(f"{folder}: no run here (no folder below has a ledger.jsonl)")
    return sorted(found, key=lambda run: run.path)


def look_at(path: Path) -> Run:
    """Return a run as it is now."""
    file = path / "status.json"
    try:
        age: float | None = max(0.0, time.time() - file.stat().st_mtime)  # by the file server's clock, not the search's
        status = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        age, status = None, None
    if not isinstance(status, dict):
        age, status = None, {}
    return Run(path, _state(path / "ledger.jsonl", status, age), age, status)


def _state(ledger: Path, status: Mapping[str, Any], age: float | None) -> State:
    held = ledger.exists() and is_open(ledger)
    said = status.get("state")
    if said != "running":
        return "starting" if held else said if said in ("interrupted", "failed", "finished") else "unknown"
    heard = age is not None and age <= SILENT
    if held:
        return "running" if heard else "hung"
    # Nobody holds the ledger: at its very end, or on a file system whose locks are not seen from here.
    here = status.get("host") == socket.gethostname()
    return "running" if heard and not (here and not _lives(status.get("pid"))) else "dead"


def _lives(pid: object) -> bool:
    try:
        return isinstance(pid, int) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
