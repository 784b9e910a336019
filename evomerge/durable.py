"""Writing to a record that has to survive anything: a line is on disk as a whole, or the file is as it was.

This file knows nothing about what the lines say.
"""

import os
from contextlib import suppress
from pathlib import Path


def append_line(file: int, line: bytes, *, sync: bool = True) -> None:
    """Write one line to a file opened for appending and, with `sync`, wait until it is on disk.

    Raises `OSError` if that fails, with the file cut back to what it held before.
    """
    size = os.fstat(file).st_size
    try:
        if os.write(file, line) != len(line):
            raise OSError("no space left")
        if sync:
            os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise


def sync_directory(path: Path) -> None:
    """Wait until the names of a folder's files are on disk, where the file system can do that."""
    folder = os.open(path, os.O_RDONLY)
    with suppress(OSError):  # some network file systems cannot
        os.fsync(folder)
    os.close(folder)
