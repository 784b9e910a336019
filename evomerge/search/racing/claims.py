"""What "as good as the references" means: claims about a candidate's scores over all items, for each rule.

A claim says that a sum of scores, with factors that are not negative, is at least a bound. A region is some claims that
hold together; a candidate is as good as the references if it lies in one of a few regions. For a front these are the
corners between its members: who is dominated by none of them is, for one of the corners, above it in every objective.
This file knows nothing about how a claim is tested.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.optimizers.base import Objective
from evomerge.search.racing.settings import Rule

#: Differences of scores that are no more than rounding.
ROUNDING = 1e-9

Corner = tuple[float, ...]


@dataclass(frozen=True)
class Claim:
    """The sum over objectives of factor times score is at least `bound`."""

    factors: tuple[float, ...]
    bound: float

    def holds(self, values: Sequence[float]) -> bool:
        """Return whether it is true of these scores."""
        whole = sum(factor * value for factor, value in zip(self.factors, values, strict=True))
        return whole >= self.bound - ROUNDING


Region = tuple[Claim, ...]


def feasible(objectives: Sequence[Objective], values: Sequence[float]) -> bool:
    """Return whether no score lies below its floor."""
    return all(objective.shortfall(value) == 0.0 for objective, value in zip(objectives, values, strict=True))


def regions(
    objectives: Sequence[Objective], rule: Rule, references: Sequence[Sequence[float]], margin: float
) -> list[Region]:
    """Return the regions where a candidate is as good as all references, given by their scores.

    Under `front` that is: for each of them, better by the margin (or as good, where it is 0) in at least one objective.
    Under the others: its scalarized value is at least the best one of theirs plus the margin. It must further lie above
    every floor if one of the references does, since a candidate below a floor is worse than any that is not. If none
    does, every rule is that of the front. No references give no regions.
    """
    if not references:
        return []
    inside = [values for values in references if feasible(objectives, values)]
    scores = [[one.normalise(v) for one, v in zip(objectives, values, strict=True)] for values in inside or references]
    if rule == "front" or not inside:
        found = [_above(objectives, corner) for corner in corners([[s + margin for s in row] for row in scores])]
    elif rule == "weighted_sum":
        shares = [one.weight / sum(other.weight for other in objectives) for one in objectives]
        best = max(sum(share * s for share, s in zip(shares, row, strict=True)) for row in scores)
        found = [(_sum(objectives, shares, best + margin),)]
    elif rule == "maximin":
        found = [_above(objectives, (max(min(row) for row in scores) + margin,) * len(objectives))]
    else:
        weights = [one.weight * len(objectives) / sum(other.weight for other in objectives) for one in objectives]
        least = min(max(w * (1.0 - s) for w, s in zip(weights, row, strict=True)) for row in scores) - margin
        found = [_above(objectives, tuple(1.0 - least / w if w > 0.0 else -math.inf for w in weights))]
    floors = [one.normalise(one.floor) if one.floor is not None else -math.inf for one in objectives]
    return [(*region, *_singles(objectives, floors)) for region in found] if inside else found


def corners(points: Sequence[Sequence[float]]) -> list[Corner]:
    """Return the smallest corners such that who is above one in every objective reaches every point in some objective.

    With the corners of the points before, a point moves up those that do not reach it, once in each objective; those
    that lie above another are not needed (Klamroth, Lacour and Vanderpooten 2015 call them local upper bounds).
    """
    found: list[Corner] = [(-math.inf,) * len(points[0])]
    for point in points:
        moved: list[Corner] = []
        for corner in found:
            if any(u >= p for u, p in zip(corner, point, strict=True)):
                moved.append(corner)
            else:
                moved += [(*corner[:j], p, *corner[j + 1 :]) for j, p in enumerate(point)]
        unique = list(dict.fromkeys(moved))
        found = [
            one
            for one in unique
            if not any(other != one and all(o <= u for o, u in zip(other, one, strict=True)) for other in unique)
        ]
    return found


def _above(objectives: Sequence[Objective], corner: Sequence[float]) -> Region:
    """Return the claims that say: above the corner in every objective; and the one that follows for their mean."""
    shares = [float(math.isfinite(c)) for c in corner]
    count = sum(shares)
    single = _singles(objectives, corner)
    if count < 2:
        return single
    mean = sum(c for c in corner if math.isfinite(c)) / count
    return (*single, _sum(objectives, [share / count for share in shares], mean))


def _singles(objectives: Sequence[Objective], bounds: Sequence[float]) -> Region:
    """Return a claim for each objective with a finite bound on its normalised score."""
    return tuple(
        _sum(objectives, [float(i == j) for i in range(len(objectives))], bound)
        for j, bound in enumerate(bounds)
        if math.isfinite(bound)
    )


def _sum(objectives: Sequence[Objective], shares: Sequence[float], bound: float) -> Claim:
    """Return the claim that a weighted sum of normalised scores is at least a bound."""
    offsets = [one.normalise(0.0) for one in objectives]
    factors = tuple(s * (one.normalise(1.0) - low) for s, one, low in zip(shares, objectives, offsets, strict=True))
    return Claim(factors, bound - sum(share * low for share, low in zip(shares, offsets, strict=True)))
