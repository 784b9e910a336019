"""Seconds on the clock and seconds of processors, measured together: on a loaded machine they differ.

This file knows nothing about what is measured.
"""

import os
import time
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Cost:
    """Seconds that pass, and seconds that processors work (this process and its children)."""

    seconds: float
    cpu: float

    def __add__(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(self.seconds + other.seconds, self.cpu + other.cpu)

    def __mul__(self, times: float) -> "Cost":
        """Return the cost of doing it so many times."""
        return Cost(self.seconds * times, self.cpu * times)

    def at_least(self, other: "Cost") -> "Cost":
        """Return the larger of each."""
        return Cost(max(self.seconds, other.seconds), max(self.cpu, other.cpu))


NOTHING = Cost(0.0, 0.0)


class Stopwatch:
    """Runs from when it is made."""

    def __init__(self) -> None:
        self._began, self._worked = time.perf_counter(), cpu_seconds()

    def read(self) -> Cost:
        """Return the cost so far."""
        return Cost(time.perf_counter() - self._began, cpu_seconds() - self._worked)


def since_process_began() -> Cost:
    """Return the cost of everything that this process has done."""
    return Cost(time.time() - psutil.Process().create_time(), cpu_seconds())


def cpu_seconds() -> float:
    """Return the processor seconds of this process, its children that ended, and those that still run."""
    own = os.times()
    total = own.user + own.system + own.children_user + own.children_system
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.Error:  # it ended just now
            continue
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total
