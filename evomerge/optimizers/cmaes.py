"""CMA-ES (Hansen 2016, arXiv 1604.00772) through pycma: a Gaussian that moves, widens and turns towards better points.

Points are drawn a generation at a time and served one by one; when a whole generation is told, the Gaussian is updated
and the next one drawn. pycma sees the ranks of a generation, never its scores: they are all that CMA-ES uses, and so
equal scores (common, a score being a mean over few items) are ordered by proposal on every machine. It knows one
objective; several are joined by a scalarization.
"""

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from evomerge.errors import UsageError
from evomerge.optimizers.base import Failure, Objective, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.optimizers.scalarization import Scalarization, weighted_sum
from evomerge.recipes import Dimension

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pycma says aloud that matplotlib is missing
    import cma

#: A coordinate's step below which no score of a few hundred items can tell two points apart.
SMALLEST_STEP = 1e-3
#: First step along a choice, whatever `sigma0` is: the widest that pycma allows, so that every choice is tried.
CHOICE_STEP = 1 / 3
#: Generations in a row whose scores are all equal before the search starts again elsewhere.
FLAT_GENERATIONS = 3


class CmaEs(ReplayedOptimizer):
    """CMA-ES with restarts.

    The first mean is the best starting point told before the first ask, else the centre of the cube; foreign points
    told later change nothing. Bounds are kept by pycma's `BoundTransform`, a smooth mirroring. A failed point ranks
    last in its generation; a generation that failed as a whole teaches nothing and is drawn anew. Where a generation
    has become narrower than `SMALLEST_STEP`, its scores are all equal for `FLAT_GENERATIONS` generations, or pycma's
    own numerical conditions end the run, it starts again at a uniformly random point with twice the population (IPOP,
    Auger and Hansen 2005). A choice is a coordinate like any other, except that its step is never less than a quarter
    of a choice's part: one point in twenty or so goes on trying another one.

    Args:
        dimensions, objectives, seed, first_number: as in `Optimizer`.
        scalarization: joins several objectives.
        population: points a generation, at least 4; default 4 + floor(3 ln n) for n dimensions, but at least 8.
        sigma0: first step size, in units of the cube's side; default 1/10 with a starting point, else 1/6.
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        objectives: Sequence[Objective],
        *,
        seed: int,
        first_number: int = 0,
        scalarization: Scalarization = weighted_sum,
        population: int | None = None,
        sigma0: float | None = None,
    ) -> None:
        super().__init__(dimensions, objectives, seed=seed, first_number=first_number)
        if population is not None and (not isinstance(population, int) or population < 4):
            raise UsageError(f"optimizer cmaes: population {population!r} must be a whole number >= 4")
        if sigma0 is not None and not 0.0 < sigma0 <= 1.0:
            raise UsageError(f"optimizer cmaes: sigma0 {sigma0!r} must lie above 0 and not above 1")
        self._scalarize, self._sigma0 = scalarization, sigma0
        self._population = population or max(8, 4 + math.floor(3 * math.log(len(self.dimensions))))
        self._rng = np.random.default_rng(seed)
        self._start: tuple[float, tuple[float, ...]] | None = None
        self._es: Any = None
        self._points: list[np.ndarray] = []  # the generation as pycma drew it, in the order it is served
        self._numbers: list[int] = []  # numbers of those that were served
        self._scores: dict[int, float | None] = {}  # of those that were told; None is a failure
        self._flat = 0

    def _propose(self) -> Sequence[float] | None:
        if self._es is None:
            centre = (0.5,) * len(self.dimensions)
            self._begin(self._start[1] if self._start else centre, self._sigma0 or (1 / 10 if self._start else 1 / 6))
        if len(self._numbers) == len(self._points):
            return None
        point = self._points[len(self._numbers)]
        self._numbers.append(self.next_number)
        return [float(u) for u in point[: len(self.dimensions)]]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        score = self._scalarize(self.objectives, outcome.values) if isinstance(outcome, Result) else None
        if not own:
            if score is not None and self._es is None and (self._start is None or score > self._start[0]):
                self._start = (score, proposal.vector)
            return
        self._scores[proposal.number] = score
        if len(self._scores) == len(self._points):
            self._end_generation()

    def _begin(self, mean: Sequence[float], sigma0: float) -> None:
        """Start a run of CMA-ES and draw its first generation."""
        parts = [len(dimension.choices) for dimension in self.dimensions]
        # pycma needs two dimensions: a single one gets a companion that nobody looks at.
        if len(parts) == 1:
            mean, parts = [*mean, 0.5], [*parts, 0]
        options = {
            "bounds": [0, 1],
            "popsize": self._population,
            "CMA_mirrors": 0,  # small populations would draw more points than `popsize`
            "randn": lambda *shape: self._rng.standard_normal(shape),
            "seed": math.nan,  # nothing is seeded: not NumPy's global generator either
            "verbose": -9,
            "signals_filename": None,  # keeps pycma from reading options from a file in the current directory
            # Conditions on scores cannot be judged by ranks; `_stuck` looks at the scores.
            "tolfun": 0,
            "tolfunhist": 0,
            "tolstagnation": 0,
            "tolflatfitness": math.inf,
            "maxiter": math.inf,
        }
        if any(parts):
            options["CMA_stds"] = [CHOICE_STEP / sigma0 if k else 1.0 for k in parts]
            options["minstd"] = [1 / (4 * k) if k else 0.0 for k in parts]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es = cma.CMAEvolutionStrategy(list(mean), sigma0, options)
        self._flat = 0
        self._draw()

    def _draw(self) -> None:
        """Draw a generation from the present Gaussian."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._points = self._es.ask()
        self._numbers, self._scores = [], {}

    def _end_generation(self) -> None:
        """Update the Gaussian with a generation that is told in full, or start again, and draw the next one."""
        scores = [self._scores[number] for number in self._numbers]
        known = [score for score in scores if score is not None]
        if known:
            worst = [-math.inf if score is None else score for score in scores]
            ranks = np.empty(len(scores))
            ranks[np.argsort([-score for score in worst], kind="stable")] = np.arange(len(scores))
            self._flat = self._flat + 1 if len(set(known)) == 1 else 0
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._es.tell(self._points, ranks.tolist())
            if self._stuck():
                self._population *= 2
                self._begin(self._rng.random(len(self.dimensions)).tolist(), self._sigma0 or 1 / 6)
                return
        self._draw()

    def _stuck(self) -> bool:
        """Say whether this run of CMA-ES has nothing more to find."""
        steps = [step for d, step in zip(self.dimensions, self._es.stds, strict=False) if not d.choices]
        narrow = bool(steps) and max(steps) < SMALLEST_STEP
        return bool(narrow or self._flat >= FLAT_GENERATIONS or self._es.stop())
