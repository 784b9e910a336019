"""`status.json`: how far a search is, for a script to poll. Replaced as a whole, so that a reader never sees a half.

A thread of its own writes it, at most once a second and at least every ten: `updated` that is older than a minute means
that the process is dead or stopped. This file knows nothing about how the figures are found.
"""

import contextlib
import json
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from evomerge import __version__
from evomerge.durable import replacing
from evomerge.search.record import Record
from evomerge.search.watch.activity import Activity, longest
from evomerge.search.watch.follow import Follower
from evomerge.search.watch.standing import Row

STATUS_VERSION = 1
#: Of more workers those that score for longest are listed.
WORKERS = 50

#: Seconds between two looks at what has changed, and the longest between two writings.
LOOK, BEAT = 1.0, 10.0


class StatusFile:
    """An observer that keeps a status file, as a context that lasts as long as the search and all it writes.

    Args:
        path: the file.
        follower: where the figures come from.
        doing: what the workers do at this moment.
    """

    def __init__(self, path: Path, follower: Follower, doing: Callable[[], Sequence[Activity]]) -> None:
        self._path, self._follower, self._doing = path, follower, doing
        self._started = _now()
        self._state: str | None = None
        self._message: str | None = None
        self._error: Exception | None = None
        self._written: tuple[Any, ...] = ()
        self._at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="status.json", daemon=True)

    def __call__(self, record: Record) -> None:
        """Take note; the thread writes. Raises what went wrong there."""
        self._follower(record)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def close(self, record: Record) -> None:
        """Take note of the end of scoring; the file says so when the context ends."""
        self._follower.end(record)
        self(record)

    def __enter__(self) -> "StatusFile":
        """Start to keep the file."""
        self._look()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Write the file for the last time, with what ended the search."""
        self._stop.set()
        self._thread.join()
        self._state = "finished" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        self._message = None if error is None else " ".join(f"{error}".split()) or type(error).__name__
        with contextlib.suppress(OSError):  # was said before, or there is something worse to say
            self._write()

    def _keep(self) -> None:
        while not self._stop.wait(LOOK):
            self._look()

    def _look(self) -> None:
        """Write the file if there is something new, or to show that the search lives."""
        state = (self._follower.snapshot, *self._doing())
        now = self._follower.clock()
        if state != self._written or now - self._at >= BEAT:
            try:
                self._write()
            except OSError as error:
                self._error = error
            self._written, self._at = state, now

    def _write(self) -> None:
        with replacing(self._path) as temporary:  # not forced to the disk: it is worth nothing after a crash
            temporary.write_text(json.dumps(self._data(), indent=1) + "\n", encoding="utf-8")

    def _data(self) -> dict[str, Any]:
        outline, shown = self._follower.outline, self._follower.snapshot
        now, standing = self._follower.clock(), shown.standing
        ended = self._state is not None
        workers = [] if ended else self._doing()
        left = None if shown.left is None or ended else shown.left.after(now - shown.taken)
        return {
            "version": STATUS_VERSION,
            "evomerge": __version__,
            "state": self._state or "running",
            "phase": shown.phase,
            "error": self._message,
            "name": outline.name,
            "optimizer": outline.optimizer,
            "seed": outline.seed,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": self._started,
            "updated": _now(),
            "models": {
                "done": shown.done,
                "planned": shown.planned,
                "left": None if shown.planned is None else shown.planned - shown.done,
                "failed": dict(shown.failures),
            },
            "items": shown.scored,
            "items_left": None if shown.ahead is None else round(shown.ahead),
            "seconds": round(now - self._follower.started, 1),
            "seconds_left": None if left is None else {key: round(value, 1) for key, value in asdict(left).items()},
            "split": None if standing is None else standing.split,
            "best": None if standing is None or standing.best is None else _row(standing.best),
            "baselines": [] if standing is None else [_row(row) for row in standing.baselines],
            "front": 0 if standing is None else standing.front,
            "scoring": sum(activity.number is not None for activity in workers),
            "idle": sum(activity.number is None for activity in workers),
            "workers": [_worker(activity, now) for activity in longest(workers, WORKERS)],
        }


def _row(row: Row) -> dict[str, Any]:
    return {**asdict(row), "tasks": dict(row.tasks)}


def _worker(activity: Activity, now: float) -> dict[str, Any]:
    doing: dict[str, Any] = {"name": activity.worker, "state": "idle" if activity.number is None else "scoring"}
    if activity.number is not None:
        doing |= {"number": activity.number, "split": activity.split, "items": activity.items}
    return {**doing, "seconds": round(max(now - activity.since, 0.0), 1)}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
