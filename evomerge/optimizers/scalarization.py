"""Several scores made into one number, for optimizers that know only one objective.

Pure functions of normalised scores (`Objective.normalise`: 0 is the base, 1 the best expert); larger is better. This
file knows nothing about optimizers.
"""

from collections.abc import Callable, Sequence

from evomerge.errors import UsageError, nearest
from evomerge.optimizers.base import Objective

Scalarization = Callable[[Sequence[Objective], Sequence[float]], float]


def weighted_sum(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return the mean of the normalised scores, weighted by the objectives' weights.

    Raises `UsageError` for a negative weight or if all are zero.
    """
    weights = [objective.weight for objective in objectives]
    if min(weights) < 0 or sum(weights) <= 0:
        raise UsageError(f"objectives: weights {weights} must not be negative, and one must be above 0")
    scores = [objective.normalise(value) for objective, value in zip(objectives, values, strict=True)]
    return sum(weight * score for weight, score in zip(weights, scores, strict=True)) / sum(weights)


def maximin(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return the smallest normalised score: the task that has gained least counts. Weights are not used."""
    return min(objective.normalise(value) for objective, value in zip(objectives, values, strict=True))


SCALARIZATIONS: dict[str, Scalarization] = {"weighted_sum": weighted_sum, "maximin": maximin}


def scalarization(name: str) -> Scalarization:
    """Return the scalarization of that name; `UsageError` if there is none."""
    if name not in SCALARIZATIONS:
        raise UsageError(f"unknown scalarization {name!r}; {nearest(name, SCALARIZATIONS)}")
    return SCALARIZATIONS[name]
