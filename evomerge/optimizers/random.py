"""Uniform random search, the control that every optimizer has to beat. It knows nothing about scores."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer


class RandomSearch(ReplayedOptimizer):
    """Independent points, uniform in the cube."""

    multi_objective = True

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self._rng = np.random.default_rng(problem.seed)

    def _propose(self) -> Sequence[float]:
        return [float(u) for u in self._rng.random(len(self.dimensions))]

    def _save(self) -> dict[str, Any]:
        return {"generator": self._rng.bit_generator.state}

    def _load(self, state: Mapping[str, Any]) -> None:
        self._rng.bit_generator.state = state["generator"]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        """Scores change nothing."""
