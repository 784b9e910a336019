"""Uniform random search, the control that every optimizer has to beat. It knows nothing about scores."""

from collections.abc import Sequence

import numpy as np

from evomerge.optimizers.base import Failure, Objective, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.recipes import Dimension


class RandomSearch(ReplayedOptimizer):
    """Independent points, uniform in the cube. Arguments as in `Optimizer`."""

    multi_objective = True

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        objectives: Sequence[Objective],
        *,
        seed: int,
        first_number: int = 0,
    ) -> None:
        super().__init__(dimensions, objectives, seed=seed, first_number=first_number)
        self._rng = np.random.default_rng(seed)

    def _propose(self) -> Sequence[float]:
        return [float(u) for u in self._rng.random(len(self.dimensions))]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        """Scores change nothing."""
