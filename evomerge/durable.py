"""Appending to a record that has to survive anything: a line is on disk as a whole, or the file is as it was.

This file knows nothing about what the lines say.
"""

import os


def append_line(file: int, line: bytes) -> None:
    """Write one line to a file opened for appending and wait until it is on disk.

    Raises `OSError` if that fails, with the file cut back to what it held before.
    """
    size = os.fstat(file).st_size
    try:
        if os.write(file, line) != len(line):
            raise OSError("no space left")
        os.fsync(file)
    except OSError:
        os.ftruncate(file, size)
        raise
