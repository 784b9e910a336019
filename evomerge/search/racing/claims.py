"""What "as good as that one" means: claims about a candidate's scores over all items, for each rule of comparison.

A candidate is as good as a reference where all (or any) of a few claims hold, each of which says that a sum of its
scores, with factors that are not negative, is at least a bound. This file knows nothing about how a claim is tested.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from evomerge.optimizers.base import Objective
from evomerge.search.racing.settings import Rule


@dataclass(frozen=True)
class Claim:
    """The sum over objectives of factor times score is at least `bound`."""

    factors: tuple[float, ...]
    bound: float

    def holds(self, values: Sequence[float]) -> bool:
        """Return whether it is true of these scores."""
        return sum(factor * value for factor, value in zip(self.factors, values, strict=True)) >= self.bound


@dataclass(frozen=True)
class Comparison:
    """A candidate is as good as trial `number` where all of `claims` hold (or one of them, if `any_suffices`)."""

    number: int
    claims: tuple[Claim, ...]
    any_suffices: bool = False

    def holds(self, values: Sequence[float]) -> bool:
        """Return whether a candidate with these scores is as good."""
        return (any if self.any_suffices else all)(claim.holds(values) for claim in self.claims)


def feasible(objectives: Sequence[Objective], values: Sequence[float]) -> bool:
    """Return whether no score lies below its floor."""
    return all(objective.shortfall(value) == 0.0 for objective, value in zip(objectives, values, strict=True))


def comparisons(
    objectives: Sequence[Objective], rule: Rule, number: int, values: Sequence[float], margin: float
) -> list[Comparison]:
    """Return what must hold for a candidate to be as good as trial `number` with scores `values`.

    Under `front` that is: better by the margin (or as good, where it is 0) in at least one objective. Under the others:
    its scalarized value is larger by the margin. A candidate must further lie above every floor that the trial lies
    above, since one below a floor is worse than any that is not. Against a trial that lies below a floor itself, every
    rule is that of the front.
    """
    scales = [objective.normalise(1.0) - objective.normalise(0.0) for objective in objectives]
    offsets = [objective.normalise(0.0) for objective in objectives]
    inside = feasible(objectives, values)

    def single(index: int, bound: float) -> Claim:
        """Say that the normalised score of one objective is at least `bound`."""
        factors = tuple(scale if j == index else 0.0 for j, scale in enumerate(scales))
        return Claim(factors, bound - offsets[index])

    normalised = [objective.normalise(value) for objective, value in zip(objectives, values, strict=True)]
    every = range(len(objectives))
    if rule == "front" or not inside:
        found = [Comparison(number, tuple(single(j, normalised[j] + margin) for j in every), any_suffices=True)]
    elif rule == "weighted_sum":
        whole = sum(objective.weight for objective in objectives)
        shares = [objective.weight / whole for objective in objectives]
        factors = tuple(share * scale for share, scale in zip(shares, scales, strict=True))
        bound = sum(factor * value for factor, value in zip(factors, values, strict=True)) + margin
        found = [Comparison(number, (Claim(factors, bound),))]
    elif rule == "maximin":
        found = [Comparison(number, tuple(single(j, min(normalised) + margin) for j in every))]
    else:
        weights = [objective.weight * len(objectives) / sum(o.weight for o in objectives) for objective in objectives]
        lacking = max(w * (1.0 - score) for w, score in zip(weights, normalised, strict=True)) - margin
        found = [Comparison(number, tuple(single(j, 1.0 - lacking / w) for j, w in enumerate(weights) if w > 0.0))]
    if inside:
        floors = [
            single(j, objective.normalise(objective.floor))
            for j, objective in enumerate(objectives)
            if objective.floor is not None
        ]
        if floors:
            found.append(Comparison(number, tuple(floors)))
    return found
