"""What the workers do at this moment.

`Workbench` stands between the search and its workers and notes what is submitted and what comes back. It knows nothing
about what the jobs mean.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evomerge.evaluation.types import Split
from evomerge.optimizers.base import Failure
from evomerge.search.workers import Job, Scored, Scorer, WorkerPool


@dataclass(frozen=True)
class Activity:
    """A worker's device and what it does: the trial's number, None while it waits, and since when (monotonic)."""

    device: str
    number: int | None
    split: Split | None
    items: int
    since: float


class Workbench:
    """A worker pool that can be looked at, from any thread."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._doing: dict[str, Activity] = {}

    def now(self) -> list[Activity]:
        """Return what each worker does."""
        return list(self._doing.values())

    def start(self, factory: Callable[[str], Scorer], devices: Sequence[str]) -> None:
        """Make one worker a device."""
        self._pool.start(factory, devices)
        for device in self._pool.idle():
            self._rest(device)

    def idle(self) -> list[str]:
        """Return the devices of the workers that have nothing to do."""
        return self._pool.idle()

    def submit(self, device: str, job: Job) -> None:
        """Give an idle worker a job."""
        self._pool.submit(device, job)
        items = sum(len(ids) for ids in job.items.values())
        self._doing[device] = Activity(device, job.number, job.split, items, time.monotonic())

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results."""
        found = self._pool.poll(timeout)
        for device in self._pool.idle():
            if self._doing[device].number is not None:
                self._rest(device)
        return found

    def _rest(self, device: str) -> None:
        self._doing[device] = Activity(device, None, None, 0, time.monotonic())
