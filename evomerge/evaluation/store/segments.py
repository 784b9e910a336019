"""Segments: append-only files of JSON lines, one a writer, so that no lock is needed.

The first line carries the version. Each further line is one block of outcomes of one model, synced at once, or one
batch of prompts that was begun. After a kill a line is there as a whole or not at all: a torn last line is ignored.
Lines begin with the model's key, so that an index is made without parsing them.

Anybody may seal a segment, even while its writer lives: it is made read-only and renamed. The writer looks at its file
again after each line; if it is sealed, the line is written once more, into a new segment, before it counts as written.
So what a sealed file holds is all that was acknowledged there, and it may be read, copied and removed.
"""

import json
import os
import socket
import time
import uuid
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from evomerge.durable import append_line, sync_directory
from evomerge.evaluation.store.contents import (
    STORE_VERSION,
    Batch,
    Contents,
    Row,
    damaged,
    join_answer,
    split_answer,
    wrong_version,
)
from evomerge.evaluation.types import Outcome

SUFFIX = ".jsonl"
SEALED = ".sealed.jsonl"
_HEAD, _AFTER_KEY = b'{"key":', b',"generation":'


class Writer:
    """Appends to a segment of its own, made at the first line.

    Args:
        directory: where segments are; made if it does not exist.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._path: Path | None = None
        self._file = self._mode = -1

    def outcomes(self, key: str, generation: str, scoring: str, outcomes: Sequence[Outcome]) -> None:
        """Write a block of outcomes and wait until it is on disk; `OSError` if that fails, the file as it was."""
        rows = [_to_plain(outcome) for outcome in outcomes]
        self._append({"key": key, "generation": generation, "scoring": scoring, "outcomes": rows}, sync=True)

    def batch(self, key: str, generation: str, prompts: Sequence[str]) -> None:
        """Write that a batch was begun; `OSError` if that fails, the file as it was."""
        self._append({"key": key, "generation": generation, "begun": list(prompts)}, sync=False)

    def close(self) -> None:
        """Close the segment; the next line makes a new one."""
        if self._path is not None:
            os.close(self._file)
            self._path = None

    def _append(self, record: dict[str, Any], *, sync: bool) -> None:
        line = json.dumps(record, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        while True:
            path = self._path or self._create()
            try:
                append_line(self._file, line, sync=sync)
            except OSError:
                self.close()  # a file that was cut back never grows again: readers can rely on it
                raise
            if not self._is_sealed(path):
                return
            self.close()

    def _is_sealed(self, path: Path) -> bool:
        """Whether somebody has taken our segment.

        It is opened, since a network file system may answer from memory till then. It may well remember the old name
        even so, but then it has the new mode.
        """
        try:
            file = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return True
        try:
            return os.fstat(file).st_mode != self._mode
        finally:
            os.close(file)

    def _create(self) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        name = f"{time.time_ns()}-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{SUFFIX}"
        path = self.directory / name
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
        try:
            append_line(file, json.dumps({"version": STORE_VERSION}).encode() + b"\n", sync=False)
        except OSError:
            os.close(file)
            raise
        sync_directory(self.directory)  # the file's name, too, is to survive a power cut
        self._path, self._file, self._mode = path, file, os.fstat(file).st_mode
        return path


def seal(path: Path) -> None:
    """Seal a segment; `FileNotFoundError` if another process has done so."""
    with suppress(OSError):  # of another user, or on a file system without modes: then the name has to do
        path.chmod(0o444)
    path.rename(path.with_name(path.name.removesuffix(SUFFIX) + SEALED))


class Segment:
    """Reads a segment, of which only the places of each key's lines are kept in memory.

    Raises `UsageError` for a file that is damaged or of another version, `FileNotFoundError` if it is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: dict[str, array[int]] = {}
        self._size = self._end = 0

    def refresh(self) -> int:
        """Take in what was appended since; return the size in bytes."""
        size = os.stat(self.path).st_size
        if size < self._end:  # a line that could not be synced was taken back
            self._lines, self._end = {}, 0
        if size != self._size:
            with self.path.open("rb", buffering=1 << 20) as file:
                self._scan(file)
            self._size = size
        return size

    def read(self, key: str) -> Contents:
        """Return what the segment holds of a model."""
        contents = Contents()
        if key in self._lines:
            with self.path.open("rb") as file:
                for offset in self._lines[key]:
                    file.seek(offset)
                    self._parse(file.readline(), contents)
        return contents

    def by_key(self) -> Iterator[tuple[str, Contents]]:
        """Yield what it holds of each model, in the order of their keys."""
        for key in sorted(self._lines):
            yield key, self.read(key)

    def _scan(self, file: BinaryIO) -> None:
        file.seek(self._end)
        for line in file:
            if not line.endswith(b"\n"):
                return
            if self._end == 0:
                self._check_version(line)
            else:
                self._lines.setdefault(self._key_of(line), array("Q")).append(self._end)
            self._end += len(line)

    def _check_version(self, line: bytes) -> None:
        try:
            version = json.loads(line)["version"]
        except (ValueError, KeyError, TypeError):
            raise damaged(self.path) from None
        if version != STORE_VERSION:
            raise wrong_version(self.path, version)

    def _key_of(self, line: bytes) -> str:
        end = line.find(_AFTER_KEY)
        if end < 0 or not line.startswith(_HEAD):
            raise damaged(self.path)
        try:
            return str(json.loads(line[len(_HEAD) : end]))
        except ValueError:
            raise damaged(self.path) from None

    def _parse(self, line: bytes, contents: Contents) -> None:
        try:
            record = json.loads(line)
            generation = record["generation"]
            if "begun" in record:
                contents.batches.append(Batch(generation, tuple(record["begun"])))
            else:
                scoring = record["scoring"]
                contents.rows += [Row(generation, scoring, _from_plain(row)) for row in record["outcomes"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise damaged(self.path) from None


def _to_plain(outcome: Outcome) -> dict[str, Any]:
    row = dict(vars(outcome))  # a tenth of the time of asdict, which copies what never changes
    row["answer"], data = split_answer(outcome.answer)
    if data is not None:
        row["answer_bytes"] = data.hex()
    return row


def _from_plain(row: dict[str, Any]) -> Outcome:
    data = row.pop("answer_bytes", None)
    if data is not None:
        row["answer"] = join_answer(row["answer"], bytes.fromhex(data))
    return Outcome(**row)
