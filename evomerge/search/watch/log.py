"""`log.txt`: every line of a search with its time, also those that a live panel has no place for; only appended to."""

import time
from pathlib import Path

from evomerge import __version__
from evomerge.search.record import Record
from evomerge.search.watch.follow import Follower
from evomerge.search.watch.news import News


class LogFile:
    """An observer that keeps a log; each start of the search begins with a line that says so."""

    def __init__(self, path: Path, follower: Follower) -> None:
        self._path, self._follower, self._news = path, follower, News()
        self._error: OSError | None = None
        self.say(f"start: evomerge {__version__}")

    def __call__(self, record: Record) -> None:
        """Write what is new."""
        self._write([line.text + line.progress for line in self._news(record, self._follower(record))])

    def say(self, line: str) -> None:
        """Write a line; if that fails the next call as an observer says so, since a word must not end a search."""
        try:
            self._write([line])
        except OSError as error:
            self._error = error

    def close(self, record: Record) -> None:
        """Write what is new."""
        self(record)

    def _write(self, lines: list[str]) -> None:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if lines:
            stamp = time.strftime("%Y-%m-%d %H:%M:%S")
            with self._path.open("a", encoding="utf-8") as file:
                file.writelines(f"{stamp}  {' '.join(line.splitlines())}\n" for line in lines)
