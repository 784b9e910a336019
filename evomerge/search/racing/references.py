"""Whom a candidate runs against: the best complete trial so far, or some of the front. Knows nothing about races."""

from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.optimizers.base import Objective
from evomerge.optimizers.scalarization import scalarization
from evomerge.reporting.front import non_dominated, spread_out
from evomerge.search.racing.claims import feasible
from evomerge.search.racing.settings import Rule


class References:
    """`references` of complete trials that come one by one: only those are kept that may still be among them.

    Args:
        objectives, rule, at_most: as of `references`.
    """

    def __init__(self, objectives: Sequence[Objective], rule: Rule, at_most: int) -> None:
        self._objectives, self._rule, self._at_most = objectives, rule, at_most
        self._kept: dict[int, Sequence[float]] = {}
        self._inside = False  # whether those lie below no floor; else all do

    def add(self, number: int, scores: Sequence[float]) -> None:
        """Take in a complete trial."""
        if self._rule != "front":
            known = {**self._kept, number: scores}
            self._kept = {best: known[best] for best in references(self._objectives, self._rule, known, 1)}
            return
        if feasible(self._objectives, scores) != self._inside:
            if self._inside:
                return
            self._kept, self._inside = {}, True
        if not any(self._covers(known, scores) for known in self._kept.values()):
            self._kept = {n: known for n, known in self._kept.items() if not self._covers(scores, known)}
            self._kept[number] = scores

    def now(self) -> list[int]:
        """Return the references among all trials so far."""
        return references(self._objectives, self._rule, self._kept, self._at_most)

    def _covers(self, one: Sequence[float], other: Sequence[float]) -> bool:
        """Say whether scores are as good as others on every task."""
        triples = zip(self._objectives, one, other, strict=True)
        return all(objective.normalise(a) >= objective.normalise(b) for objective, a, b in triples)


def references(
    objectives: Sequence[Objective], rule: Rule, scores: Mapping[int, Sequence[float]], at_most: int
) -> list[int]:
    """Return the numbers of at most so many complete trials that a new candidate has to be as good as.

    Under a scalarization that is the best one alone (of equal ones the earliest): who is as good as the best is as good
    as all, and every further reference would take its share of the bet. Under `front` it is its members, those that lie
    below no floor if there are any; of more than `at_most` those that together cover the largest hypervolume.

    Args:
        objectives: what counts.
        rule: how trials are compared.
        scores: of complete trials: number -> the score of each objective. None give none.
        at_most: so many under `front`.
    """
    if not scores:
        return []
    if rule != "front":
        value = scalarization(rule)
        return [min(scores, key=lambda number: (-value(objectives, scores[number]), number))]
    inside = {number: values for number, values in scores.items() if feasible(objectives, values)} or scores
    points = np.array(
        [[one.normalise(v) for one, v in zip(objectives, values, strict=True)] for values in inside.values()]
    )
    front = np.flatnonzero(non_dominated(points))
    _, first = np.unique(points[front], axis=0, return_index=True)
    front = front[np.sort(first)]
    if len(front) > at_most:
        low, span = points[front].min(axis=0), np.ptp(points[front], axis=0)
        corner = low - 0.1 * np.where(span > 0.0, span, 1.0)
        front = front[spread_out(points[front], corner, at_most)]
    numbers = list(inside)
    return [numbers[i] for i in front]
