"""Workers that live in processes of their own, and are watched.

A worker that dies, hangs or takes too long for a job is replaced. What it was at is tried once more on a fresh worker
and is a failed candidate if that ends in the same way, so that no candidate can end a search. This file knows nothing
about scoring, nor how a worker is made and reached: `spawned.py` and `ray_pool.py` do.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from evomerge.errors import UsageError, WorkError
from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Factory, Job, Scored
from evomerge.search.workers.placing import names_of

#: Seconds between two looks at workers that say nothing.
LOOK = 1.0
#: Workers that may die in a row before one is ready.
MOST_DEATHS = 3
#: Jobs that take so many times as long an item as the slowest so far are given up, after this many seconds at least.
TOO_SLOW, LEAST_SECONDS = 20.0, 600.0


@dataclass
class Worker:
    """What is known of a worker.

    Attributes:
        placed: whether its process runs; one that waits for its place in a cluster cannot hang.
        ready: whether its scorer is built.
        job: what it is at.
        seconds: how long the job has taken, and `silence`, how long nothing was heard; time that this process slept
            does not count.
    """

    name: str
    device: str
    placed: bool = True
    ready: bool = False
    job: Job | None = None
    seconds: float = 0.0
    silence: float = 0.0


@dataclass(frozen=True)
class Ending:
    """How a worker ended.

    Attributes:
        reason: the end of a sentence.
        own: it was not taken away with the host that it lived on.
        memory: it was killed for want of memory.
    """

    reason: str
    own: bool = True
    memory: bool = False


W = TypeVar("W", bound=Worker)


class SupervisedPool(ABC, Generic[W]):
    """Workers that are replaced where they fail; how they are made and reached is for subclasses to say.

    Args:
        patience: seconds without a sign of life after which a worker counts as hung.
        job_seconds: seconds after which a job is given up; None: found from how long others took.
    """

    def __init__(self, *, patience: float = 60.0, job_seconds: float | None = None) -> None:
        self._patience, self._job_seconds = patience, job_seconds
        self._workers: dict[str, W] = {}
        self._settings: Mapping[str, Any] | None = None  # of the first worker's back end
        self._found: list[tuple[Job, Scored | Failure]] = []  # results that nobody has asked for yet
        self._again: list[Job] = []  # to be tried once more, before anything new
        self._tried: set[tuple[int, str]] = set()  # jobs that a worker died of
        self._deaths = 0  # since a worker was last ready
        self._slowest = 0.0  # seconds an item
        self._looked = time.monotonic()

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Make one worker a device: the first, then others that score to the same bits."""
        self._factory, self._devices, self._say = factory, list(devices), say
        (first, device), *others = zip(names_of(devices), devices, strict=True)
        self._spawn(first, device)
        while self._settings is None:
            self._look()
        self._factory = factory.alike(self._settings)
        for name, device in others:
            self._spawn(name, device)
        return self._settings

    def idle(self) -> list[str]:
        """Return the workers that have nothing to do; waits for one if no job is under way."""
        self._look(0.0)
        while True:
            free = [worker for worker in self._workers.values() if worker.ready and worker.job is None]
            while self._again and free:
                self._give(free.pop(0), self._again.pop(0))
            if free or any(worker.job for worker in self._workers.values()):
                return [worker.name for worker in free]
            self._look()

    def submit(self, worker: str, job: Job) -> None:
        """Give an idle worker a job."""
        self._give(self._workers[worker], job)

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results; none also when a worker has become ready, so that it can be given a job."""
        until = None if timeout is None else time.monotonic() + timeout
        free = len(self.idle())
        while not self._found and any(worker.job for worker in self._workers.values()):
            self._look(LOOK if until is None else max(0.0, min(LOOK, until - time.monotonic())))
            if len(self.idle()) > free or (until is not None and time.monotonic() >= until):
                break
        found, self._found = self._found, []
        return found

    @abstractmethod
    def close(self) -> None:
        """End the workers."""

    # ---- what a kind of pool has to say ------------------------------------------------------------------------------

    @abstractmethod
    def _make(self, name: str, device: str) -> W:
        """Begin to make a worker, and have it build its scorer."""

    @abstractmethod
    def _send(self, worker: W, job: Job) -> None:
        """Send a job; that a worker died meanwhile is for `_listen` to find."""

    @abstractmethod
    def _listen(self, seconds: float) -> None:
        """Wait for signs of life at most so long; call `_hear` with each, and `_replace` for who is dead."""

    @abstractmethod
    def _end(self, worker: W) -> Ending:
        """End a worker, also one that is dead or cannot hear; return how it had ended if it had."""

    # ---- one worker --------------------------------------------------------------------------------------------------

    def _spawn(self, name: str, device: str) -> None:
        self._workers[name] = self._make(name, device)

    def _give(self, worker: W, job: Job) -> None:
        worker.job, worker.seconds = job, 0.0
        self._send(worker, job)

    def _look(self, seconds: float = LOOK) -> None:
        """Wait for messages, see who is dead, hung or too slow, and replace them."""
        self._listen(seconds)
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, 2 * LOOK), now
        for worker in list(self._workers.values()):
            worker.silence += passed if worker.placed else 0.0
            worker.seconds += passed
            if worker.silence > self._patience:
                self._replace(worker, f"hung: no sign of life for {self._patience:g} seconds")
            elif worker.job is not None and worker.seconds > self._longest(worker.job):
                self._replace(worker, f"gave no result for {worker.seconds:.0f} seconds")

    def _hear(self, worker: W, kind: str, value: Any) -> None:
        """Take a message of a worker: alive, say, ready, done or refused, each with its value."""
        worker.silence = 0.0
        if kind == "refused":
            raise value
        if kind == "say" and self._settings is None:  # the others say the same
            self._say(value)
        elif kind == "ready":
            self._welcome(worker, value)
        elif kind == "done":
            job, worker.job = worker.job, None
            assert job is not None
            if isinstance(value, Scored):
                self._slowest = max(self._slowest, value.seconds / _items(job))
            self._found.append((job, value))

    def _welcome(self, worker: W, settings: Mapping[str, Any]) -> None:
        worker.ready, self._deaths = True, 0
        self._settings = known = settings if self._settings is None else self._settings
        differing = sorted(key for key in settings.keys() | known.keys() if settings.get(key) != known.get(key))
        if differing:
            key = differing[0]
            raise UsageError(
                f"workers.devices: {worker.name} has {key} {settings.get(key)}, the first worker {known.get(key)}: "
                "their scores would not be the same; use devices of one kind"
            )

    def _longest(self, job: Job) -> float:
        """Return after how many seconds a job is given up."""
        if self._job_seconds is not None:
            return self._job_seconds
        return max(LEAST_SECONDS, TOO_SLOW * self._slowest * _items(job)) if self._slowest else float("inf")

    def _replace(self, worker: W, reason: str | None) -> None:
        """Put another in a worker's place; its job has failed if that was tried before."""
        ending = self._end(worker)
        reason = reason or ending.reason
        job = worker.job
        if job is None and not worker.ready and ending.own:
            self._deaths += 1
            if self._deaths >= MOST_DEATHS:
                tried = f"{self._deaths} processes in a row could not begin to score"
                raise WorkError(f"worker {worker.name}: {tried}, the last {reason}")
        self._spawn(worker.name, worker.device)
        if job is None:
            self._say(f"worker {worker.name} {reason}; another takes its place")
        elif (job.number, job.split) in self._tried:
            self._say(f"worker {worker.name} {reason}, the second one at candidate {job.number}, which is given up")
            kind = "memory" if ending.memory else "worker"
            self._found.append((job, Failure(kind, f"two workers in a row at it, the last {reason}")))
        else:
            again = "tries again in smaller batches" if ending.memory else "tries again"
            self._say(f"worker {worker.name} {reason} at candidate {job.number}; another takes its place and {again}")
            self._tried.add((job.number, job.split))
            self._again.append(replace(job, sparing=ending.memory))


def _items(job: Job) -> int:
    return max(1, sum(len(items) for items in job.items.values()))
