"""Several scores made into one number, for optimizers that know only one objective.

Pure functions of normalised scores (`Objective.normalise`: 0 is the base, 1 the best expert); larger is better. Floors
are handled alike in all of them: a point with a score below its floor is worse than any that has none there, and of two
such points the one that lacks less in all is the better. This file knows nothing about optimizers.
"""

from collections.abc import Callable, Sequence

from evomerge.errors import UsageError, nearest
from evomerge.optimizers.base import Objective

Scalarization = Callable[[Sequence[Objective], Sequence[float]], float]

#: What a score below its floor costs: more than normalised scores of real tasks can differ by.
BELOW_FLOOR = 1e6


def weighted_sum(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return the mean of the normalised scores, weighted by the objectives' weights.

    Raises `UsageError` for a negative weight or if all are zero.
    """
    if (lacking := shortfall(objectives, values)) > 0:
        return -BELOW_FLOOR - lacking
    weights = _weights(objectives)
    return sum(w * score for w, score in zip(weights, _normalised(objectives, values), strict=True)) / sum(weights)


def tchebycheff(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return 1 - max w (1 - score) over the normalised scores, weights w scaled to a mean of 1.

    The weighted Tchebycheff distance to the ideal point, where every task has the score of its best expert (Bowman
    1976), turned so that larger is better and all scores at 1 give 1. Every point of a front, also of its concave
    parts, is the best for some weights. With equal weights it is `maximin`. Objectives of weight 0 do not count.

    Raises `UsageError` for a negative weight or if all are zero.
    """
    if (lacking := shortfall(objectives, values)) > 0:
        return -BELOW_FLOOR - lacking
    weights = _weights(objectives)
    scale = len(weights) / sum(weights)
    pairs = zip(weights, _normalised(objectives, values), strict=True)
    return 1.0 - max(scale * w * (1.0 - score) for w, score in pairs if w > 0)


def maximin(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return the smallest normalised score: the task that has gained least counts. Weights are not used."""
    if (lacking := shortfall(objectives, values)) > 0:
        return -BELOW_FLOOR - lacking
    return min(_normalised(objectives, values))


def shortfall(objectives: Sequence[Objective], values: Sequence[float]) -> float:
    """Return how far all scores that lie below their floors do so together, on the normalised scale; 0: none does."""
    return sum(objective.shortfall(value) for objective, value in zip(objectives, values, strict=True))


SCALARIZATIONS: dict[str, Scalarization] = {
    "weighted_sum": weighted_sum,
    "tchebycheff": tchebycheff,
    "maximin": maximin,
}


def scalarization(name: str) -> Scalarization:
    """Return the scalarization of that name; `UsageError` if there is none."""
    if name not in SCALARIZATIONS:
        raise UsageError(f"unknown scalarization {name!r}; {nearest(name, SCALARIZATIONS)}")
    return SCALARIZATIONS[name]


def _normalised(objectives: Sequence[Objective], values: Sequence[float]) -> list[float]:
    return [objective.normalise(value) for objective, value in zip(objectives, values, strict=True)]


def _weights(objectives: Sequence[Objective]) -> list[float]:
    weights = [objective.weight for objective in objectives]
    if min(weights) < 0 or sum(weights) <= 0:
        raise UsageError(f"objectives: weights {weights} must not be negative, and one must be above 0")
    return weights
