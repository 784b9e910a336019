"""A fleet of workers in simulated time: nothing is merged, answers come from a formula, a day passes in minutes.

The search loop, its ledger and its optimizer are the real ones, and what they take is real: the simulated clock goes on
by the driver's own seconds while the loop is outside the fleet. So a slow driver leaves its workers idle as it would in
truth. Workers are slow and quick, are preempted in the middle of a job and come back; a job is tried once more and then
a failure, as with every pool. This file knows nothing about optimizers.
"""

import heapq
import pickle
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Factory, Job, Scored

#: Where the seconds of the driver come from: `clock` of this process, or nowhere, so that a simulation is repeatable.
Clock = Callable[[], float]


def no_time() -> float:
    """Return 0: a driver that takes no time."""
    return 0.0


@dataclass(frozen=True)
class Weather:
    """What workers meet with. Times in seconds.

    Attributes:
        seconds: median time of a job on all items of a split; a job of fewer items takes as much less.
        spread: standard deviation of its logarithm, from job to job.
        differ: the same, from worker to worker.
        preempted: mean time until a worker is taken away; 0: never.
        away: mean time until it is back.
    """

    seconds: float = 60.0
    spread: float = 0.3
    differ: float = 0.1
    preempted: float = 0.0
    away: float = 120.0


@dataclass
class Counts:
    """What became of the workers' time, in seconds of all workers together, and of their jobs.

    Attributes:
        idle: waiting for the driver, while the search had something to do.
        down: away, being preempted.
        jobs, lost, failed: jobs given, jobs whose worker was taken away, jobs that ended as a failure.
    """

    idle: float = 0.0
    down: float = 0.0
    jobs: int = 0
    lost: int = 0
    failed: int = 0


class SimulatedPool:
    """Workers that are a time each, at which they will be done.

    Args:
        answer: makes what a worker found of a job; its time is not the driver's.
        weather: what workers meet with.
        seed: of all that is drawn.
        clock: seconds of the driver; `no_time`: it takes none.
        items: how many items a job of `weather.seconds` has.
    """

    def __init__(
        self,
        answer: Callable[[Job], Scored | Failure],
        *,
        weather: Weather,
        seed: int = 0,
        clock: Clock = time.perf_counter,
        items: int,
    ) -> None:
        self._answer, self.weather, self._clock, self._items = answer, weather, clock, items
        self._rng = random.Random(seed)
        self.now, self.driver = 0.0, 0.0  # simulated seconds, and those of them that the driver took
        self.counts = Counts()
        self._free: dict[str, float] = {}  # worker -> since when
        self._busy: list[tuple[float, int, str, Job | None, bool]] = []  # done at, ..., job (None: comes back), lost
        self._found: list[tuple[Job, bytes]] = []  # that nobody has asked for yet
        self._again: list[Job] = []  # to be tried once more
        self._tried: set[tuple[int, str]] = set()
        self._turn = 0
        self._left = clock()

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Make one worker a device; the factory is not used."""
        with self._inside():
            self._speed = {name: self._rng.lognormvariate(0.0, self.weather.differ) for name in devices}
            self._free = dict.fromkeys(devices, self.now)
        return {}

    def idle(self) -> list[str]:
        """Return the workers that have nothing to do; waits for one to come back if no job is under way."""
        with self._inside():
            self._advance()
            while not self._free and not any(job for _, _, _, job, _ in self._busy):
                self._wait()
                self._advance()
            return list(self._free)

    def submit(self, worker: str, job: Job) -> None:
        """Give an idle worker a job."""
        with self._inside():
            self._give(worker, job)

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results, in simulated time."""
        with self._inside():
            self._advance()
            while not self._found and self._busy:
                self._wait()
                self._advance()
            found, self._found = self._found, []
        return [(job, pickle.loads(data)) for job, data in found]  # as from a process: unpacking is the driver's work

    def close(self) -> None:
        """There is nothing to end."""

    def time(self) -> float:
        """Return what a clock shows in the driver, in simulated seconds."""
        return self.now + self._clock() - self._left

    def begin(self) -> None:
        """Count idle workers from now on."""
        self.counts.idle = 0.0
        self._free = dict.fromkeys(self._free, self.now)

    # ---- time --------------------------------------------------------------------------------------------------------

    def _inside(self) -> "_Inside":
        return _Inside(self)

    def _wait(self) -> None:
        """Wait until something happens."""
        self.now = max(self.now, self._busy[0][0])

    def _give(self, worker: str, job: Job) -> None:
        since = self._free.pop(worker)
        self.counts.idle += self.now - since
        self.counts.jobs += 1
        share = sum(map(len, job.items.values())) / self._items
        seconds = (
            self.weather.seconds * share * self._speed[worker] * self._rng.lognormvariate(0.0, self.weather.spread)
        )
        until = self._rng.expovariate(1.0 / self.weather.preempted) if self.weather.preempted else float("inf")
        self._turn += 1
        heapq.heappush(self._busy, (self.now + min(seconds, until), self._turn, worker, job, until < seconds))

    def _advance(self) -> None:
        """Take in all that has happened by now."""
        while self._busy and self._busy[0][0] <= self.now:
            at, _, worker, job, lost = heapq.heappop(self._busy)
            if job is None or not lost:
                self._free[worker] = at
            else:
                away = self._rng.expovariate(1.0 / self.weather.away)
                self.counts.down += away
                self.counts.lost += 1
                self._turn += 1
                heapq.heappush(self._busy, (at + away, self._turn, worker, None, False))
            if job is not None and (outcome := self._outcome(job, lost)) is not None:
                self._found.append((job, pickle.dumps(outcome)))
        while self._again and self._free:
            self._give(next(iter(self._free)), self._again.pop(0))

    def _outcome(self, job: Job, lost: bool) -> Scored | Failure | None:
        """Return what came of a job, None if it is tried once more."""
        if lost and (job.number, job.split) not in self._tried:
            self._tried.add((job.number, job.split))
            self._again.append(job)
            return None
        if lost:
            self.counts.failed += 1
            return Failure("worker", "two workers in a row were taken away")
        outcome = self._answer(job)
        self.counts.failed += isinstance(outcome, Failure)
        return outcome


class _Inside:
    """Time spent in the fleet is the simulation's own, time outside it is the driver's."""

    def __init__(self, pool: SimulatedPool) -> None:
        self._pool = pool

    def __enter__(self) -> None:
        passed = self._pool._clock() - self._pool._left
        self._pool.now += passed
        self._pool.driver += passed

    def __exit__(self, *_: object) -> None:
        self._pool._left = self._pool._clock()
