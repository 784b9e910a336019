"""How much main memory a process may still take. This file knows nothing about what it is for."""

import os
from pathlib import Path

#: The environment's word for "as one of so many": the workers of a search on one host, and searches that share a host.
SHARING = "EVOMERGE_SHARING_MEMORY"


def available_memory() -> int:
    """Return the bytes of main memory that can still be taken, or this process's part of them.

    They are the machine's, or less where a control group says so.
    """
    available = 1 << 62
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        if limit != "max":
            used = int(Path("/sys/fs/cgroup/memory.current").read_text())
            available = min(available, max(0, int(limit) - used))
    except (OSError, ValueError):  # not Linux, or no control groups
        pass
    return available // sharing()


def sharing() -> int:
    """Return how many processes share the memory with this one, itself among them."""
    return int(os.environ.get(SHARING, 1))
