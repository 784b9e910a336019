"""What a worker answers, wherever it lives: (kind, value) pairs of plain words and data.

    ("ready", settings)   its scorer is built
    ("done", outcome)     of a job: `Scored` or `Failure`
    ("refused", error)    what concerns the whole run; the worker is of no more use

This file knows nothing about processes, nor about scoring.
"""

from collections.abc import Callable
from typing import Any

from evomerge.errors import EvomergeError, WorkError
from evomerge.search.workers.base import Job, Scorer, attempt

Answer = tuple[str, Any]


def build(
    factory: Callable[[str, Callable[[str], None]], Scorer], device: str, say: Callable[[str], None]
) -> tuple[Scorer | None, Answer]:
    """Build a scorer; returns it, None if that fails, and what is to be answered."""
    try:
        scorer = factory(device, say)
    except Exception as error:
        known = error if isinstance(error, EvomergeError) else WorkError(f"{type(error).__name__}: {error}")
        return None, ("refused", known)
    return scorer, ("ready", scorer.settings)


def answer(scorer: Scorer, job: Job) -> Answer:
    """Score a job; returns what is to be answered."""
    try:
        return "done", attempt(scorer, job)
    except (EvomergeError, OSError) as error:
        return "refused", error
