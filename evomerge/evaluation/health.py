"""How sound a model's answers are, apart from whether they are right.

A merge may gain because it stops in time or writes answers where the filter finds them, not because it knows more.
Pure functions of outcomes.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from evomerge.evaluation.types import Outcome


@dataclass(frozen=True)
class Health:
    """Rates over a model's outcomes on one task, each between 0 and 1; all are 0 where there are no outcomes.

    Attributes:
        items: how many outcomes.
        truncated: answers cut off by the token limit.
        empty: answers of white space only.
        strict, flexible: mean scores under strict and flexible extraction, None where the task does not have both.
    """

    items: int
    truncated: float
    empty: float
    strict: float | None = None
    flexible: float | None = None

    @property
    def format_loss(self) -> float | None:
        """What strict extraction loses against flexible: right answers in the wrong form."""
        return None if self.strict is None or self.flexible is None else self.flexible - self.strict


def health_of(outcomes: Iterable[Outcome]) -> Health:
    """Return the health of a model's outcomes on one task."""
    outcomes = list(outcomes)
    both = [(o.strict, o.flexible) for o in outcomes if o.strict is not None and o.flexible is not None]
    return Health(
        items=len(outcomes),
        truncated=_mean([outcome.truncated for outcome in outcomes]),
        empty=_mean([not outcome.answer.strip() for outcome in outcomes]),
        strict=_mean([strict for strict, _ in both]) if both else None,
        flexible=_mean([flexible for _, flexible in both]) if both else None,
    )


def health_by_task(outcomes: Iterable[Outcome]) -> dict[str, Health]:
    """Return the health of a model's outcomes, task by task in the order of their first outcome."""
    by_task: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_task.setdefault(outcome.task, []).append(outcome)
    return {task: health_of(rows) for task, rows in by_task.items()}


def _mean(values: list[float] | list[bool]) -> float:
    return sum(values) / len(values) if values else 0.0
