"""What the workers do at this moment.

`Workbench` stands between the search and its workers and notes what is submitted and what comes back. It knows nothing
about what the jobs mean.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluation.types import Split
from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Factory, Job, Scored, WorkerPool


@dataclass(frozen=True)
class Activity:
    """A worker's name and what it does: the trial's number, None while it waits, and since when (monotonic)."""

    worker: str
    number: int | None
    split: Split | None
    items: int
    since: float


def longest(activities: Sequence[Activity], most: int) -> list[Activity]:
    """Return the activities, of more than `most` those that score for longest: the others are soon something else."""
    if len(activities) <= most:
        return list(activities)
    return sorted(activities, key=lambda activity: (activity.number is None, activity.since))[:most]


class Workbench:
    """A worker pool that can be looked at, from any thread."""

    def __init__(self, pool: WorkerPool) -> None:
        self._pool = pool
        self._doing: dict[str, Activity] = {}

    def now(self) -> list[Activity]:
        """Return what each worker does."""
        return list(self._doing.values())

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Make one worker a device."""
        settings = self._pool.start(factory, devices, say)
        for worker in self._pool.idle():
            self._rest(worker)
        return settings

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def idle(self) -> list[str]:
        """Return the names of the workers that have nothing to do."""
        return self._pool.idle()

    def submit(self, worker: str, job: Job) -> None:
        """Give an idle worker a job."""
        self._pool.submit(worker, job)
        items = sum(len(ids) for ids in job.items.values())
        self._doing[worker] = Activity(worker, job.number, job.split, items, time.monotonic())

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results."""
        found = self._pool.poll(timeout)
        for worker in self._pool.idle():
            if worker not in self._doing or self._doing[worker].number is not None:
                self._rest(worker)
        return found

    def _rest(self, worker: str) -> None:
        self._doing[worker] = Activity(worker, None, None, 0, time.monotonic())
