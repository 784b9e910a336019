"""What a program has started, seen from its helper: found, measured, killed. Knows nothing about what programs do."""

import math
import os
import resource
import signal
import time
from contextlib import suppress

from .confinement import Confinement
from .folder import too_much_in
from .linux import MEGABYTE, Limits

PAGE = resource.getpagesize()
TICKS = os.sysconf("SC_CLK_TCK")  # a second


def proc_is_ours() -> bool:
    """Say whether /proc shows this process's own namespace (where a mount is refused, the host's may have stayed)."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def threads(pid: int) -> int:
    """Return how many threads a process has; 1 where /proc cannot tell."""
    try:
        return len(os.listdir(f"/proc/{pid}/task")) if proc_is_ours() else 1
    except OSError:
        return 1


def running_seconds(pid: int) -> float:
    """Return the processor's seconds that a process has used, infinity if it waits for something else or is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, *fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return math.inf
    return (int(fields[10]) + int(fields[11])) / TICKS if state == b"R" and proc_is_ours() else math.inf


def descendants() -> list[int]:
    """Return all processes below this one; those whose parents died come to it."""
    if not proc_is_ours():
        return []
    found: list[int] = []
    waiting = [os.getpid()]
    while waiting:
        below = children(waiting.pop())
        found += below
        waiting += below
    return found


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    try:
        found: list[int] = []
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
        return found
    except FileNotFoundError:
        return children_by_parent(pid) if os.path.exists(f"/proc/{pid}") else []
    except OSError:
        return []


def children_by_parent(pid: int) -> list[int]:
    """Return the children of a process, for kernels that do not list them: slow."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", "rb") as file:
                if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                    found.append(int(entry))
        except OSError:
            continue
    return found


def excess(limits: Limits, scratch: str) -> str | None:
    """Return what a program and all it started use too much of together, None for nothing.

    The kernel's limits hold for each process and each file; this is the sum, looked at while the program runs.
    """
    below = descendants()
    if len(below) > 2 * limits.processes:
        return "too many processes"
    memory = 0
    for pid in below:
        try:
            with open(f"/proc/{pid}/statm", "rb") as file:
                fields = file.read().split()
            memory += (int(fields[1]) - int(fields[2])) * PAGE  # resident, less what is shared with files
        except OSError:
            continue
    if memory > 2 * limits.memory_mb * MEGABYTE:
        return "too much memory"
    return too_much_in(scratch, limits)


def kill_all_but(kept: int, deadline: float) -> bool:
    """Kill what a program started, but not the program; returns whether nothing else is left."""
    while others := [pid for pid in descendants() if pid != kept and not is_zombie(pid)]:
        if time.monotonic() > deadline:
            return False
        for pid in others:
            kill(pid)
        for pid in others:
            with suppress(ChildProcessError):  # not ours yet, or gone
                os.waitpid(pid, os.WNOHANG)
    return True


def is_zombie(pid: int) -> bool:
    """Say whether a process has ended, and only waits for its parent to ask how."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def sweep(confinement: Confinement) -> bool:
    """Kill a program and everything it started, and reap it all; returns whether nothing is left."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if confinement.own_processes:
            kill(-1)
        elif confinement.user is not None:
            # As that user, one call reaches all its processes at once, however fast they fork; our way back is kept.
            os.setresuid(confinement.user, confinement.user, 0)
            kill(-1)
            os.setresuid(0, 0, 0)
        for pid in descendants():
            kill(pid)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return True
        signal.sigtimedwait([signal.SIGCHLD], 0.01)
    return False


def kill(pid: int) -> None:
    """Kill a process, or with -1 all that we may, which may be gone by now."""
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def of_this_user() -> int:
    """Return how many processes and threads this user has: the kernel's limit counts them all together."""
    if time.monotonic() - _counted[0] > 2:
        user, found = os.getuid(), 0
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with suppress(OSError):
                if os.stat(f"/proc/{entry}").st_uid == user:
                    found += len(os.listdir(f"/proc/{entry}/task"))
        _counted[:] = [time.monotonic(), found]
    return int(_counted[1])


_counted = [-1e9, 0.0]  # when, and how many
