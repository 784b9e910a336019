"""The amortised front: the best points for all preferences, found once; a preference then only looks one up.

A preference is a weight for each objective. Its point is the one, of those stored that lack least below the floors,
with the largest weighted mean of normalised predictions; the first of equals wins. Sums run over the objectives in
their order, in double precision: the same arithmetic in any language gives the same point. Each point carries a promise
(`promise.py`), and its vector is rounded before anything is computed from it, so that text and number are the same.
This file knows nothing about runs or recipes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from math import comb
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.errors import UsageError, refuse_unknown
from evomerge.optimizers.base import Objective
from evomerge.optimizers.map.candidates import inside, predicted_front
from evomerge.optimizers.map.goals import FrontGoal
from evomerge.optimizers.map.promise import Answers, flattery_of, promise
from evomerge.optimizers.map.surrogates import MIN_POINTS, Surrogates
from evomerge.optimizers.scalarization import BELOW_FLOOR

Array = npt.NDArray[np.float64]

#: Preferences for which the best point is sought, at most; and those at which the flattery is measured.
PREFERENCES, FEW_PREFERENCES = 500, 40
#: Decimal places of a vector.
PLACES = 6
#: Generations of NSGA-III before the points are moved one by one.
GENERATIONS = 30
#: Steps of these sizes, in units of the cube's side, are tried from every point.
STEPS = (0.2, 0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01, 0.01, 0.005, 0.002, 0.001)
#: Steps from a point in each round.
TRIES = 4


@dataclass(frozen=True)
class AmortisedFront:
    """Points of a predicted front.

    Attributes:
        objectives: what the values are of.
        items: for each objective, the number of new items that the promise speaks about.
        vectors: (k, d), of the unit cube.
        values: (k, m), predicted scores.
        low, high: (k, m), ends of the promised intervals.
    """

    objectives: tuple[Objective, ...]
    items: tuple[int, ...]
    vectors: Array
    values: Array
    low: Array
    high: Array

    def best(self, preference: Mapping[str, float] | None = None) -> int:
        """Return the place of the best point for a preference.

        Args:
            preference: objective -> weight; unnamed ones weigh nothing. None: the objectives' own weights.

        Raises `UsageError` for an unknown objective, a negative weight, or none above 0.
        """
        weights = np.array([preference_weights(self.objectives, preference)])
        return int(best_rows(self.objectives, self.values, weights)[0])

    def telling(self, n: int) -> list[int]:
        """Return the places of up to `n` points that together cover most, the most telling first."""
        utilities = FrontGoal(self.objectives, self.values).utilities(self.values)
        chosen: list[int] = []
        best = np.full(utilities.shape[1], utilities.min() - 1e-12)
        while len(chosen) < min(n, len(self.values)):
            added = np.maximum(utilities - best, 0.0).mean(axis=1)
            added[chosen] = -1.0
            chosen.append(int(np.argmax(added)))
            best = np.maximum(best, utilities[chosen[-1]])
        return chosen

    def to_dict(self) -> dict[str, Any]:
        """Return the front as JSON data."""
        return {
            "objectives": [asdict(objective) for objective in self.objectives],
            "items": list(self.items),
            "vectors": self.vectors.tolist(),
            "values": self.values.tolist(),
            "low": self.low.tolist(),
            "high": self.high.tolist(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "AmortisedFront":
        """Return the front that `to_dict` gave; `UsageError` where the data are none."""
        try:
            objectives = tuple(Objective(**objective) for objective in data["objectives"])
            arrays = [np.array(data[key], dtype=float) for key in ("vectors", "values", "low", "high")]
            k = len(arrays[0])
            if k == 0 or any(array.shape != (k, len(objectives)) for array in arrays[1:]) or arrays[0].ndim != 2:
                raise ValueError("points and values do not go together")
            return cls(objectives, tuple(int(n) for n in data["items"]), *arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise UsageError(f"surrogates: this is no front ({error})") from None


def preference_weights(objectives: Sequence[Objective], preference: Mapping[str, float] | None) -> list[float]:
    """Return one weight an objective; see `AmortisedFront.best`."""
    if preference is None:
        weights = [o.weight for o in objectives]
    else:
        refuse_unknown(preference, [o.name for o in objectives], "preference")
        weights = [float(preference.get(o.name, 0.0)) for o in objectives]
    if not min(weights) >= 0 or not 0 < max(weights) < np.inf:
        raise UsageError(f"preference: weights {weights} must not be negative, and one must be above 0")
    return weights


def best_rows(objectives: Sequence[Objective], values: Array, weights: Array) -> npt.NDArray[np.int64]:
    """Return for each preference (w, m) the best of scores (n, m), (w,).

    That is the one that lacks least below its floors, of equals the one with the largest `worth`, of equals the first.
    """
    lacks = lacking(objectives, values)
    kept = (lacks == lacks.min())[:, None]
    return np.asarray(np.argmax(np.where(kept, worth(objectives, values, weights), -np.inf), axis=0))


def worth(objectives: Sequence[Objective], values: Array, weights: Array) -> Array:
    """Return the weighted means of normalised scores (n, m) for preferences (w, m), (n, w).

    Each sum starts at 0 and runs over the objectives in order.
    """
    total, weight = np.zeros((len(values), len(weights))), np.zeros(len(weights))
    for j, column in enumerate(scaled(objectives, values).T):
        total += weights[:, j] * column[:, None]
        weight += weights[:, j]
    return np.asarray(total / weight)


def lacking(objectives: Sequence[Objective], values: Array) -> Array:
    """Return how far scores (n, m) lie below the floors, summed on the normalised scale, (n,)."""
    total = np.zeros(len(values))
    floors = scaled(objectives, np.array([[0.0 if o.floor is None else o.floor for o in objectives]]))[0]
    for floor, objective, column in zip(floors, objectives, scaled(objectives, values).T, strict=True):
        if objective.floor is not None:
            total += np.maximum(floor - column, 0.0)
    return total


def scaled(objectives: Sequence[Objective], values: Array) -> Array:
    """Return scores (n, m) on the normalised scale, with the arithmetic of `Objective.normalise`."""
    columns = []
    for objective, column in zip(objectives, values.T, strict=True):
        ends = scale_ends(objective)
        columns.append(column if ends is None else (column - ends[0]) / (ends[1] - ends[0]))
    return np.stack(columns, axis=1)


def scale_ends(objective: Objective) -> tuple[float, float] | None:
    """Return the scores that are 0 and 1 on the normalised scale, None where scores are used as they are."""
    low, high = objective.low, objective.high
    return None if low is None or high is None or high <= low else (low, high)


def amortise(surrogates: Surrogates, answers: Answers, items: Sequence[int], *, seed: int) -> AmortisedFront | None:
    """Find the best points for all preferences, with their promises.

    Args:
        surrogates: trusted ones.
        answers: the scores of single items at the fitted points.
        items: number of new items that is promised for, for each objective.
        seed: of all that is drawn; the same seed and data give the same front.

    Returns None where the surrogates, or those of half the items, cannot be trusted: then nothing can be promised.
    """
    if not surrogates.trusted or len(answers.rows) < MIN_POINTS:
        return None
    objectives = surrogates.objectives
    own = np.array([o.weight for o in objectives])
    weights = preferences(len(objectives), PREFERENCES)
    if own.max() > 0:
        weights = np.vstack([weights, own / own.sum()])
    starts = predicted_front(surrogates, weights=[1.0] * len(objectives), seed=seed, generations=GENERATIONS)
    places = best_points(surrogates, weights, starts, seed=seed)
    vectors = np.unique(np.round(places, PLACES), axis=0)
    values = surrogates.means(vectors)
    winners = best_rows(objectives, values, weights)
    chosen = np.unique(winners)
    vectors, values = vectors[chosen], values[chosen]

    flattery = flattery_of(
        surrogates,
        answers,
        preferences(len(objectives), FEW_PREFERENCES),
        lambda half, wanted: best_points(half, wanted, starts, seed=seed),
        seed=seed,
    )
    if flattery is None:
        return None
    shares = np.stack([weights[winners == place].mean(axis=0) for place in chosen])
    too_high = np.maximum(flattery[:, 0] + flattery[:, 1] * shares, 0.0)
    low, high = promise(surrogates, vectors, too_high, answers, items)
    return AmortisedFront(objectives, tuple(items), vectors, values, low, high)


def best_points(surrogates: Surrogates, weights: Array, starts: Array, *, seed: int) -> Array:
    """Return the best points for preferences (w, m), (w, d): scored points and starts, moved by random steps that help.

    A step that is good for one preference is there for all. Nothing leaves the sampled box, nor is anything
    extrapolated.
    """
    rng = np.random.default_rng(seed)
    objectives, (lower, upper) = surrogates.objectives, surrogates.box()
    tried = np.vstack([surrogates.points, inside(surrogates, np.clip(starts, lower, upper))])
    top, height = np.empty((len(weights), tried.shape[1])), np.full(len(weights), -np.inf)
    for step in (*STEPS, 0.0):
        values = surrogates.means(tried)
        short = lacking(objectives, values)[:, None]
        found = np.where(short > 0.0, -BELOW_FLOOR - short, worth(objectives, values, weights))
        first = np.argmax(found, axis=0)
        reached = found[first, np.arange(len(weights))]
        better = reached > height
        top[better], height[better] = tried[first[better]], reached[better]
        tried = np.clip(_steps(surrogates, np.unique(top, axis=0), step, rng), lower, upper)
        tried = np.vstack([top[:1], tried[surrogates.strain(tried) <= 1.0]])
    return top


def preferences(m: int, most: int) -> Array:
    """Return up to `most` weights that cover the simplex evenly, its corners included, (w, m) (Das and Dennis 1998)."""
    if m == 1:
        return np.ones((1, 1))
    parts = 1
    while comb(m + parts, parts + 1) <= most:
        parts += 1
    cuts = np.array(list(combinations(range(parts + m - 1), m - 1)), dtype=float)
    ends = np.full((len(cuts), 1), float(parts + m - 1))
    return (np.diff(np.hstack([np.full((len(cuts), 1), -1.0), cuts, ends]), axis=1) - 1.0) / parts


def _steps(surrogates: Surrogates, points: Array, step: float, rng: np.random.Generator) -> Array:
    """Return points nearby: some coordinates moved, or a piece of the way to another point."""
    n, d = points.shape
    moved = np.repeat(points, TRIES, axis=0)
    some = rng.random(moved.shape) < np.maximum(rng.random((len(moved), 1)), 2.0 / d)
    shifted = moved + step * some * rng.standard_normal(moved.shape)
    others = points[rng.integers(n, size=len(moved))]
    mixed = moved + rng.random((len(moved), 1)) * (others - moved)
    for place, dimension in enumerate(surrogates.dimensions):
        if dimension.choices:
            shifted[:, place] = np.where(rng.random(len(moved)) < 0.2, rng.random(len(moved)), moved[:, place])
            mixed[:, place] = moved[:, place]
    return np.where(np.arange(len(moved))[:, None] % 4 == 0, mixed, shifted)
