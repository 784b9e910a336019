"""Whom a candidate runs against."""
from collections.abc import Mapping, Sequence

from evomerge.optimizers.base import Objective
from evomerge.search.racing.settings import Rule


def references(
    objectives: Sequence[Objective], rule: Rule, scores: Mapping[int, Sequence[float]], at_most: int
) -> list[int]:
    """Return the numbers of at most so many complete trials that a new candidate has to be as good as."""
    raise NotImplementedError
