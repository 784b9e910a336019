"""The outcome store: every answer that was ever scored in a run, on disk before anything depends on it.

A folder of append-only files of JSON lines, one file a writer. The first line carries the version; each further line
is one block of outcomes, written and synced at once, so that after a kill a block is there as a whole or not at all
(a torn last line is ignored). An outcome is found again by the model's key, the task, the item, the hash of its
prompt and the hash of the settings that it was scored under.

This file knows nothing about models or tasks.
"""

import json
import os
import socket
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.durable import append_line
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.types import Outcome

STORE_VERSION = 1

_Place = tuple[str, str, str, str, str]  # key, settings, task, item, prompt hash


class OutcomeStore:
    """The outcomes of a run, in memory and on disk.

    Args:
        directory: the folder of this run's files; made if it does not exist.
        read_also: folders of other runs, whose outcomes are known too; nothing is written there.

    Raises `UsageError` for a file that is damaged in the middle or was written by another version.
    """

    def __init__(self, directory: Path, *, read_also: Sequence[Path] = ()) -> None:
        self.directory = Path(directory)
        self._file: int | None = None
        self._outcomes: dict[_Place, Outcome] = {}
        for folder in (*read_also, self.directory):
            for path in sorted(Path(folder).glob("*.jsonl")):
                self._read(path)

    def __len__(self) -> int:
        """The number of outcomes known."""
        return len(self._outcomes)

    def get(self, key: str, settings: str, task: str, item: str, prompt_hash: str) -> Outcome | None:
        """Return an outcome, None if there is none."""
        return self._outcomes.get((key, settings, task, item, prompt_hash))

    def add(self, key: str, settings: str, outcomes: Sequence[Outcome]) -> None:
        """Write a block of outcomes and wait until it is on disk; `WorkError` if that fails, the file as it was."""
        if not outcomes:
            return
        rows = [outcome.to_dict() for outcome in outcomes]
        self._append({"key": key, "settings": settings, "outcomes": rows})
        self._take(key, settings, outcomes)

    def close(self) -> None:
        """Close this writer's file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _take(self, key: str, settings: str, outcomes: Sequence[Outcome]) -> None:
        for outcome in outcomes:
            place = (key, settings, outcome.task, outcome.item, outcome.prompt_hash)
            self._outcomes.setdefault(place, outcome)

    def _append(self, record: dict[str, Any]) -> None:
        try:
            if self._file is None:
                self._file = self._open()
            data = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
            append_line(self._file, data)
        except OSError as error:
            raise WorkError(
                f"{self.directory}: outcomes cannot be written: {error.strerror or error}; what was recorded is safe, "
                "the same command goes on from there"
            ) from None

    def _open(self) -> int:
        """Make a file of our own: writers never share one, so no lock is needed."""
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.jsonl"
        file = os.open(self.directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        os.write(file, json.dumps({"version": STORE_VERSION}).encode() + b"\n")
        folder = os.open(self.directory, os.O_RDONLY)
        os.fsync(folder)  # the file's name, too, is to survive a power cut
        os.close(folder)
        return file

    def _read(self, path: Path) -> None:
        data = path.read_bytes()
        lines = data[: data.rfind(b"\n") + 1].split(b"\n")[:-1]
        try:
            records = [json.loads(line) for line in lines]
            if records and records[0].get("version") != STORE_VERSION:
                raise UsageError(
                    f"{path}: version {records[0].get('version')!r} is not the {STORE_VERSION} this evomerge reads"
                )
            for record in records[1:]:
                self._take(record["key"], record["settings"], [Outcome(**row) for row in record["outcomes"]])
        except (ValueError, KeyError, TypeError, AttributeError):
            raise UsageError(f"{path} is damaged; restore it, or remove it to score its items again") from None
