"""Who scores candidates: a job goes in, outcomes or a failure come out. Weights never travel, only recipes and item
ids.

A pool has four calls: `start(factory, devices)`, `idle()`, `submit(device, job)`, `poll(timeout)`. The one here
works in the process of the search. It knows nothing about optimizers or ledgers.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from evomerge.errors import CandidateError, EvomergeError
from evomerge.evaluation import Evaluator
from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure
from evomerge.recipes import Recipe
from evomerge.search.scorer import Engine


@dataclass(frozen=True)
class Job:
    """A recipe to be built and scored on `items` (task -> item ids) of one split."""

    number: int
    recipe: Recipe
    split: Split
    items: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Scored:
    """What a worker found: the fingerprint of the merged weights and the outcomes of each task."""

    fingerprint: str
    outcomes: Mapping[str, Sequence[Outcome]]
    seconds: float


class Scorer:
    """Builds a recipe in the live model and scores it."""

    def __init__(self, engine: Engine, evaluator: Evaluator) -> None:
        self.engine, self.evaluator = engine, evaluator

    def __call__(self, job: Job) -> Scored:
        """Score one job; `CandidateError` if the candidate cannot be built or scored."""
        start = time.monotonic()
        applied = self.engine.apply(job.recipe)
        # Outcomes are kept under the weights' fingerprint, not the recipe's hash: a model file that changed under the
        # same name gives other weights, and so never finds outcomes that are not its own.
        key = applied.fingerprint
        outcomes = {task: self.evaluator.score(task, items, key) for task, items in job.items.items()}
        return Scored(applied.fingerprint, outcomes, time.monotonic() - start)


class WorkerPool(Protocol):
    """What the search loop needs of its workers."""

    def start(self, factory: Callable[[str], Scorer], devices: Sequence[str]) -> None:
        """Make one worker a device; `factory(device)` builds its scorer where the worker lives."""

    def idle(self) -> list[str]:
        """Return the devices of the workers that have nothing to do."""

    def submit(self, device: str, job: Job) -> None:
        """Give an idle worker a job."""

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results, at most `timeout` seconds; errors that concern the whole run are raised."""


class InProcessPool:
    """One worker, in this process: a submitted job is done when it is polled for."""

    def start(self, factory: Callable[[str], Scorer], devices: Sequence[str]) -> None:
        """Build the scorer on the first device."""
        self._device = devices[0]
        self._scorer = factory(self._device)
        self._job: Job | None = None

    def idle(self) -> list[str]:
        """Return the device, unless a job waits."""
        return [] if self._job else [self._device]

    def submit(self, device: str, job: Job) -> None:
        """Keep the job for the next poll."""
        assert device == self._device
        assert self._job is None
        self._job = job

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Do the waiting job, if there is one."""
        job, self._job = self._job, None
        return [] if job is None else [(job, attempt(self._scorer, job))]


def attempt(scorer: Scorer, job: Job) -> Scored | Failure:
    """Score a job; what concerns this candidate alone becomes a `Failure`, all else is raised."""
    try:
        return scorer(job)
    except CandidateError as error:
        return Failure("candidate", str(error))
    except torch.OutOfMemoryError as error:
        return Failure("memory", str(error).splitlines()[0])
    except (EvomergeError, OSError):
        raise
    except Exception as error:
        return Failure("error", f"{type(error).__name__}: {error}"[:500])
