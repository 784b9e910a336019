"""One candidate's race."""
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from evomerge.optimizers.base import Objective
from evomerge.search.racing.estimates import Estimate
from evomerge.search.racing.settings import RacingSettings, Rule

Vector = NDArray[np.float64]


class Race:
    """One candidate's race."""

    beaten_by: int | None

    def __init__(
        self,
        settings: RacingSettings,
        objectives: Sequence[Objective],
        *,
        rule: Rule,
        known: Mapping[int, Sequence[Vector]],
        references: Sequence[int],
        seed: int,
    ) -> None:
        self.beaten_by = None

    def block(self) -> tuple[tuple[int, ...], ...] | None:
        """Return the places of the items to score next, for each objective; None: the race is over."""
        raise NotImplementedError

    def take(self, scores: Sequence[Sequence[float]]) -> None:
        """Take the scores of the block last given, in its order."""
        raise NotImplementedError

    def results(self) -> list[Estimate]:
        """Return the estimate of each objective."""
        raise NotImplementedError
