"""Writing to a record that has to survive anything: a line is on disk as a whole, or the file is as it was.

This file knows nothing about what the lines say.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from evomerge.errors import SAFE, WorkError


def append_line(file: int, line: bytes, *, sync: bool = True) -> None:
    """Write one line to a file opened for appending and, with `sync`, wait until it is on disk.

    Raises `OSError` if that fails, with the file cut back to what it held before.
    """
    size = os.fstat(file).st_size
    try:
        while line:  # a disk that is nearly full takes a part, and says why at the rest
            line = line[os.write(file, line) :]
        if sync:
            os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield where to write a file that takes the place of `path`: a reader sees the old one or the new, never a half.

    Where that fails nothing is left of it, which would take the room that other files still have.
    """
    temporary = path.with_name(path.name + ".new")
    try:
        yield temporary
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def unwritable(path: Path, error: OSError) -> WorkError:
    """Return what to raise where a file or folder of a run cannot be written."""
    return WorkError(f"{path}: cannot be written: {error.strerror or error}; {SAFE}")


def sync_directory(path: Path) -> None:
    """Wait until the names of a folder's files are on disk, where the file system can do that."""
    folder = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # some network file systems cannot
        os.fsync(folder)
    os.close(folder)
