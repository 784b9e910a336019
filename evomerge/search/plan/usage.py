"""The memory that this process has, and the most it ever had. Linux tells; elsewhere only the present is known.

This file knows nothing about what the memory is for.
"""

from contextlib import suppress
from pathlib import Path

import psutil
import torch

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def resident_memory() -> int:
    """Return the bytes of main memory that this process has now."""
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Return the most bytes of main memory that this process had since `restart_peak`, or ever."""
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:  # not Linux
        pass
    return resident_memory()


def restart_peak() -> None:
    """Forget the peak so far, where the system lets a process do so."""
    with suppress(OSError):
        _CLEAR.write_text("5")


def device_memory(device: str) -> int:
    """Return the bytes of a GPU's memory that are not free; 0 for other devices."""
    if not device.startswith("cuda"):
        return 0
    free, total = torch.cuda.mem_get_info(torch.device(device))
    return int(total - free)
