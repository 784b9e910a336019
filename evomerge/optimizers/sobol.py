"""A scrambled Sobol sequence: points that fill the cube more evenly than random ones. It knows nothing about scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import qmc

from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer


class SobolSearch(ReplayedOptimizer):
    """The points of a scrambled Sobol sequence (Joe and Kuo 2008), in order."""

    multi_objective = True

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        # `seed`, since scipy before 1.15 does not know `rng`
        self._sequence = qmc.Sobol(len(self.dimensions), scramble=True, seed=np.random.default_rng(problem.seed))

    def _propose(self) -> Sequence[float]:
        return [float(u) for u in self._sequence.random(1)[0]]

    def _save(self) -> dict[str, Any]:
        return {}

    def _load(self, state: Mapping[str, Any]) -> None:
        if asked := self.next_number - self.first_number:
            self._sequence.fast_forward(asked)

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        """Scores change nothing."""
