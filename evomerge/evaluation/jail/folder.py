"""The scratch folder of a helper, in which each program gets an empty folder: measured, and cleared after the program.

The names and the depth of what programs leave there are theirs to choose. Knows nothing about processes.
"""

import os
import stat

from .linux import MEGABYTE, Limits

FILES = 4096  # that a program may have


def bytes_in(limits: Limits) -> int:
    """Return how much a program may have in its folder."""
    return 4 * limits.file_mb * MEGABYTE


def names_in(scratch: str) -> list[str]:
    """Return what is in the scratch folder but Python's library, which is mounted there."""
    device = os.stat(scratch).st_dev
    return [name for name in os.listdir(scratch) if os.lstat(os.path.join(scratch, name)).st_dev == device]


def too_much_in(scratch: str, limits: Limits) -> str | None:
    """Return what a program has too much of in its folder, None for nothing."""
    size = files = 0
    waiting = [os.path.join(scratch, name) for name in names_in(scratch)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    files += 1
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                    if size > bytes_in(limits):
                        return "too large files"
                    if files > FILES or len(entry.path) > 3000:  # folders in folders, as deep as a path can say
                        return "too many files"
        except OSError:  # gone by now, locked, or a file
            continue
    return None


def clear(scratch: str) -> None:
    """Remove what a program left in the scratch folder, whatever it did to it; Python's library stays.

    Goes down and up by descriptors, one at a time, since folders in folders may be deeper than a path can say.
    """
    here = os.open(scratch, os.O_DIRECTORY)
    way: list[tuple[str, list[str]]] = []  # the folders down to here, each with what is left to remove beside it
    left = names_in(scratch)
    try:
        while left or way:
            if not left:
                above = os.open("..", os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = above
                name, left = way.pop()
                os.rmdir(name, dir_fd=here)
            elif not stat.S_ISDIR(os.stat(left[-1], dir_fd=here, follow_symlinks=False).st_mode):
                os.unlink(left.pop(), dir_fd=here)
            else:
                name = left.pop()
                os.chmod(name, 0o700, dir_fd=here)
                below = os.open(name, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = below
                way.append((name, left))
                left = os.listdir(here)
    finally:
        os.close(here)
