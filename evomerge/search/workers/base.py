"""What goes in and out of workers, and the calls that every pool of workers has.

This file knows nothing about processes, optimizers or ledgers, and imports nothing heavy.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from evomerge.errors import CandidateError, EvomergeError, out_of_memory
from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure
from evomerge.recipes import Recipe


@dataclass(frozen=True)
class Job:
    """A recipe to be built and scored on `items` (task -> item ids) of one split.

    `sparing`: in smaller batches than others, since a worker was killed at it for want of memory.
    """

    number: int
    recipe: Recipe
    split: Split
    items: Mapping[str, tuple[str, ...]]
    sparing: bool = False


@dataclass(frozen=True)
class Scored:
    """What a worker found: the fingerprint of the merged weights and the outcomes of each task."""

    fingerprint: str
    outcomes: Mapping[str, Sequence[Outcome]]
    seconds: float


class Scorer(Protocol):
    """What scores in a worker."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """What shapes an answer besides weights and prompts, as plain data; under `batching` the shape of batches."""

    def __call__(self, job: Job) -> Scored:
        """Score one job; `CandidateError` if the candidate cannot be built or scored."""


class Factory(Protocol):
    """Builds a scorer where a worker lives. It can be sent there, unless the worker is this process."""

    def __call__(self, device: str, say: Callable[[str], None]) -> Scorer:
        """Build the scorer on a device; `say` is told what a person should know."""

    def alike(self, settings: Mapping[str, Any]) -> "Factory":
        """Return the factory of more workers that score to the same bits as the one that has these settings."""


class WorkerPool(Protocol):
    """What the search loop needs of its workers."""

    def start(self, factory: Factory, devices: Sequence[str], say: Callable[[str], None]) -> Mapping[str, Any]:
        """Make one worker a device, of which some may be the same; return the settings of their back ends.

        `say` is told what a person should know, now and later.

        Raises `UsageError` or `WorkError` if a scorer cannot be built.
        """

    def idle(self) -> list[str]:
        """Return the names of the workers that have nothing to do; never none while no job is under way."""

    def submit(self, worker: str, job: Job) -> None:
        """Give an idle worker a job."""

    def poll(self, timeout: float | None = None) -> list[tuple[Job, Scored | Failure]]:
        """Wait for results, at most `timeout` seconds; errors that concern the whole run are raised."""

    def close(self) -> None:
        """End the workers; what they were at is not lost that was stored already."""


def attempt(scorer: Scorer, job: Job) -> Scored | Failure:
    """Score a job; what concerns this candidate alone becomes a `Failure`, all else is raised."""
    try:
        return scorer(job)
    except CandidateError as error:
        return Failure("candidate", str(error))
    except (EvomergeError, OSError):
        raise
    except Exception as error:
        kind = "memory" if out_of_memory(error) else "error"
        return Failure(kind, f"{type(error).__name__}: {error}"[:500])
