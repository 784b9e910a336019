"""Bayesian MAP: points are sampled where the quadratics are least certain among those that may still be good.

The original draws bins of angles by their error, one task at a time, never enters a bin that is empty, and knows up to
six models (arXiv 2406.07529, appendix; its released code). Here the candidates are the front of the optimistic
predictions (mean plus `width` standard errors of every task at once) and points from the whole sampled box; the one is
taken whose scores have the largest posterior spread, times the chance that it improves on what is known or in flight.
So the uncertain is looked at first, an empty region is uncertain, and the number of models is free.
"""

import numpy as np
import numpy.typing as npt

from evomerge.checks import number
from evomerge.optimizers.base import Problem
from evomerge.optimizers.map.goals import normalised, normals
from evomerge.optimizers.map.search import MapSearch
from evomerge.optimizers.map.surrogates import Surrogates

Array = npt.NDArray[np.float64]


class BayesianMap(MapSearch):
    """MAP with adaptive sampling.

    Args:
        problem, start, form, coefficients, warp: as in `MapSearch`.
        width: how many standard errors the optimistic predictions lie above the mean, > 0.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        start: int | None = None,
        form: str = "auto",
        coefficients: str = "weights",
        warp: str = "auto",
        width: float = 1.0,
    ) -> None:
        super().__init__(problem, start=start, form=form, coefficients=coefficients, warp=warp)
        self._width = number(width, "optimizer bayesian_map: width", above=0)

    def _worth(self, surrogates: Surrogates, pool: Array) -> Array:
        """Return the spread of the normalised scores, summed over tasks, times the chance of an improvement."""
        goal = self._goal(self._values.all)
        best = self._best(surrogates, goal)
        draws = surrogates.draws(pool, normals(len(self.objectives)))
        s, n, m = draws.shape
        utilities = goal.utilities(draws.reshape(s * n, m)).reshape(s, n, -1)
        chance = (utilities > best).any(axis=2).mean(axis=0)
        scores = normalised(self.objectives, draws.reshape(s * n, m)).reshape(s, n, m)
        return np.asarray(scores.std(axis=0).sum(axis=1) * chance)
