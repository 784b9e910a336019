"""Jobs of a sweep that share one host: so many search at a time, each on its part of the GPUs, processors and memory.

A job holds a lock on a small file of this host while it searches; the kernel lets go of it when the process ends,
however that ends. This file knows nothing about searches, and imports nothing heavy: it has to come before libraries
that count processors.
"""

import fcntl
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from evomerge.errors import UsageError
from evomerge.memory import SHARING

#: Seconds between two looks whether a place has become free.
LOOK = 1.0

T = TypeVar("T")


@contextmanager
def turn(at_once: int | None) -> Iterator[None]:
    """Wait until fewer than `at_once` jobs of this user search on this host; then see a job's part of it alone.

    Raises `UsageError` if GPUs are visible, but too few for each job to have one, and where somebody else's files are
    in the place of the locks.
    """
    if at_once is None:
        yield
        return
    gpus = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if gpus and len(gpus) < at_once:
        raise UsageError(f"workers.at_once: {at_once} jobs cannot share {len(gpus)} GPUs")
    place, file = _take(at_once)
    try:
        if gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(_part(gpus, place, at_once))
        processors = sorted(os.sched_getaffinity(0))
        if len(processors) >= at_once:
            os.sched_setaffinity(0, _part(processors, place, at_once))
        os.environ[SHARING] = str(at_once)
        yield
    finally:
        os.close(file)


def _take(at_once: int) -> tuple[int, int]:
    """Return a place that nobody had, and the open file that holds it."""
    folder = Path(tempfile.gettempdir(), f"evomerge-{os.getuid()}")
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()  # the folder of temporary files is everybody's: another user may have made it, or a link
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise UsageError(f"{folder}: is not a folder of yours; remove it, or set TMPDIR to another place")
    files = [os.open(folder / f"place-{place}-of-{at_once}", os.O_RDWR | os.O_CREAT, 0o600) for place in range(at_once)]
    taken = None
    try:
        while taken is None:
            for place, file in enumerate(files):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue
                taken = place
                break
            else:
                time.sleep(LOOK)
    finally:
        for place, file in enumerate(files):
            if place != taken:
                os.close(file)
    return taken, files[taken]


def _part(things: Sequence[T], place: int, parts: int) -> Sequence[T]:
    """Return the part of a sequence at a place, one of `parts` that differ in length by one at most."""
    return things[place * len(things) // parts : (place + 1) * len(things) // parts]
