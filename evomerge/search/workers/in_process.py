"""The worker that is the process of the search itself."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Factory, Job, Scored, attempt


class InProcessPool:
    """One worker, in this process: a submitted job is done when it is polled for."""

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Build the scorer on the only device."""
        (self._device,) = devices
        self._scorer = factory(self._device, say)
        self._job: Job | None = None
        return self._scorer.settings

    def idle(self) -> list[str]:
        """Return the device, unless a job waits."""
        return [] if self._job else [self._device]

    def submit(self, worker: str, job: Job) -> None:
        """Keep the job for the next poll."""
        assert worker == self._device
        assert self._job is None
        self._job = job

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Do the waiting job, if there is one."""
        job, self._job = self._job, None
        return [] if job is None else [(job, attempt(self._scorer, job))]

    def close(self) -> None:
        """There is nothing to end."""
