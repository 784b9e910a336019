"""CMA-ES (Hansen 2016, arXiv 1604.00772) through pycma: a Gaussian that moves, widens and turns towards better points.

Points are drawn one by one from the present Gaussian, and never waited for: whenever results of a population are in, of
whichever points, the Gaussian is updated with them. With one worker that is CMA-ES generation by generation; with
several, some points of an update come from the Gaussian before. pycma sees the ranks of an update's points, never their
scores: they are all that CMA-ES uses, and so equal scores (common, a score being a mean over few items) are ordered by
proposal on every machine. It knows one objective; several are joined by a scalarization.

All candidates are scored on the same items, so scoring one once more tells nothing new, and noise is what other items
would have said. The mean of the Gaussian, an average over many points' luck, is therefore proposed itself after every
update; and where a population's scores differ by less than their standard errors, the population grows.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest
from evomerge.optimizers import cmaes_state
from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.optimizers.scalarization import Scalarization, weighted_sum

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # pycma says aloud that matplotlib is missing
    import cma
    from cma.restricted_gaussian_sampler import GaussVDSampler

COVARIANCES = ("auto", "full", "separable", "low_memory")
#: `auto`: dimensions from which on a full covariance has more numbers than a few hundred points can teach.
SEPARABLE_FROM = 24
#: A coordinate's step below which no score of a few hundred items can tell two points apart.
SMALLEST_STEP = 1e-3
#: The widest step that pycma allows. The first along a choice, whatever `sigma0` is, so that every choice is tried.
WIDEST_STEP = 1 / 3
#: Updates in a row whose scores are all equal before the search starts again elsewhere.
FLAT_UPDATES = 3
#: Updates in a row whose scores differ by less than their errors before the population grows, and by what it does.
NOISY_UPDATES = 2
GROWTH = 1.5
#: Points in flight, in populations, from which on the population grows to half of them.
MANY_FLYING = 3
#: Updates below which a search does little more than find out in which direction to go.
FEW_UPDATES = 8

COMPLETE, CUT_SHORT, FAILED = range(3)  # in this order whatever the scores


@dataclass(frozen=True)
class _Told:
    """A point of the present Gaussian, or of one not long before it, and how good it is. Smaller ranks are better."""

    number: int
    point: np.ndarray  # as pycma drew it: its own mapping from it to what it drew is by these very bits
    rank: tuple[int, float]
    error: float


class CmaEs(ReplayedOptimizer):
    """CMA-ES with restarts.

    The first mean is the best starting point told before the first ask, else the centre of the cube; foreign points
    told later change nothing. Bounds are kept by pycma's `BoundTransform`, a smooth mirroring. Points that a race cut
    short rank after all complete ones, failed ones last; an update of failures only teaches nothing and is skipped.
    Where the Gaussian has become narrower than `SMALLEST_STEP`, the scores are all equal for `FLAT_UPDATES` updates, or
    pycma's own numerical conditions end the run, it starts again at a uniformly random point with twice the population
    (IPOP, Auger and Hansen 2005); results of the run before that come in later are not used. Where the scores of
    complete points have a smaller standard deviation than standard error for `NOISY_UPDATES` updates, it starts again
    around the mean, as wide as it is, with a population `GROWTH` times as large; points of before still count. The same
    happens where far more points are in flight than a population has: points that were drawn many updates ago lead an
    update astray, so it then takes half as many results as points are in flight. A choice
    is a coordinate like any other, except that its step is never less than a quarter of a choice's part: one point in
    twenty or so goes on trying another one.

    Args:
        problem: what is to be optimised.
        scalarization: joins several objectives.
        population: results an update, at least 4; default 4 + floor(3 ln n) for n dimensions, but at least 8.
        sigma0: first step size, in units of the cube's side; default 1/10 with a starting point, else 1/6.
        covariance: what is learnt of the shape of the Gaussian. full: all of it, n (n + 1) / 2 numbers; separable: its
            widths, n numbers (Ros and Hansen 2008); low_memory: the widths and one long axis (VD-CMA, Akimoto et al.
            2014), from 10 dimensions on; auto: full below `SEPARABLE_FROM` dimensions, else separable.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        scalarization: Scalarization = weighted_sum,
        population: int | None = None,
        sigma0: float | None = None,
        covariance: str = "auto",
    ) -> None:
        super().__init__(problem)
        n = len(self.dimensions)
        if population is not None:
            whole(population, "optimizer cmaes: population", least=4)
        if sigma0 is not None:
            number(sigma0, "optimizer cmaes: sigma0", above=0, most=1)
        if covariance not in COVARIANCES:
            raise UsageError(f"optimizer cmaes: unknown covariance {covariance!r}; {nearest(covariance, COVARIANCES)}")
        if covariance == "low_memory" and n < 10:
            raise UsageError(f"optimizer cmaes: covariance low_memory needs 10 dimensions or more, not {n}")
        if covariance == "auto":
            covariance = "full" if n < SEPARABLE_FROM else "separable"
        self._scalarize, self._sigma0, self._covariance = scalarization, sigma0, covariance
        self._population = population or max(8, 4 + math.floor(3 * math.log(n)))
        self._rng = np.random.default_rng(problem.seed)
        self._start: tuple[float, tuple[float, ...]] | None = None
        self._es: Any = None
        self._begun: tuple[list[float], float] = ([], 0.0)  # with what mean and step this run of CMA-ES began
        self._next: np.ndarray | None = None  # a point that is drawn but not asked for yet
        self._flying: dict[int, np.ndarray] = {}  # points of this run of CMA-ES that are being scored
        self._told_points: list[_Told] = []  # since the last update
        self._flat = self._noisy = 0
        self._mean_is_due = False
        self._without_floors = [replace(objective, floor=None) for objective in self.objectives]

    def describe(self, budget: int | None) -> list[str]:
        """Say how many updates the budget allows."""
        line = f"CMA-ES: {len(self.dimensions)} dimensions, {self._population} results an update"
        if budget is None:
            return [line]
        updates = budget // (self._population + 1)
        few = "; that is few: give it more candidates, or the space fewer groups" if updates < FEW_UPDATES else ""
        return [f"{line}, about {updates} updates in {budget} candidates{few}"]

    def _propose(self) -> Sequence[float]:
        if self._es is None:
            centre = (0.5,) * len(self.dimensions)
            self._begin(self._start[1] if self._start else centre, self._sigma0 or (1 / 10 if self._start else 1 / 6))
        if self._mean_is_due:
            self._mean_is_due = False
            return self._mean()
        point = self._draw() if self._next is None else self._next
        self._next = None
        self._flying[self.next_number] = point
        return [float(u) for u in point[: len(self.dimensions)]]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        score = self._scalarize(self.objectives, outcome.values) if isinstance(outcome, Result) else -math.inf
        if not own:
            if isinstance(outcome, Result) and self._es is None and (self._start is None or score > self._start[0]):
                self._start = (score, proposal.vector)
            return
        point = self._flying.pop(proposal.number, None)
        if point is None:
            return
        if len(self._flying) > MANY_FLYING * self._population:
            self._population = len(self._flying) // 2
            if self._es.countiter:
                self._begin(self._mean(), self._widest())
            else:
                self._begin(*self._begun)
        kind = FAILED if isinstance(outcome, Failure) else CUT_SHORT if outcome.cut_short else COMPLETE
        error = self._error(outcome) if isinstance(outcome, Result) else 0.0
        self._told_points.append(_Told(proposal.number, point, (kind, -score), error))
        if len(self._told_points) == self._population:
            self._update()

    def _save(self) -> dict[str, Any]:
        told = self._told_points
        return {
            "generator": self._rng.bit_generator.state,
            "population": self._population,
            "counts": [self._flat, self._noisy],
            "mean_is_due": self._mean_is_due,
            "next": self._next,
            "flying": [list(self._flying), np.array(list(self._flying.values()))],
            "told": [[t.number, list(t.rank), t.error] for t in told],
            "told_points": np.array([t.point for t in told]),
            "es": None if self._es is None else {"begun": self._begun, **cmaes_state.save(self._es)},
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        if state["es"] is None:
            return
        (mean, sigma0), self._population = state["es"]["begun"], state["es"]["parts"]["adapt_sigma"]["_popsize"]
        self._begin(mean, sigma0)
        cmaes_state.load(self._es, state["es"])
        self._population = state["population"]
        self._flat, self._noisy = state["counts"]
        self._mean_is_due, self._next = state["mean_is_due"], state["next"]
        self._flying = dict(zip(*state["flying"], strict=True))
        self._told_points = [
            _Told(number, point, (kind, rank), error)
            for (number, (kind, rank), error), point in zip(state["told"], state["told_points"], strict=True)
        ]
        self._rng.bit_generator.state = state["generator"]

    def _lower(self, result: Result) -> Result:
        """Return the result as it is: cut-short points rank after all complete ones."""
        return result

    def _begin(self, mean: Sequence[float], sigma0: float) -> None:
        """Start a run of CMA-ES."""
        self._begun = ([float(u) for u in mean], float(sigma0))
        parts = [len(dimension.choices) for dimension in self.dimensions]
        # pycma needs two dimensions: a single one gets a companion that nobody looks at.
        if len(parts) == 1:
            mean, parts = [*mean, 0.5], [*parts, 0]
        options = {
            "bounds": [0, 1],
            "popsize": self._population,
            "CMA_mirrors": 0,  # small populations would draw more points than `popsize`
            "CMA_diagonal": self._covariance == "separable",
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
        if self._covariance == "low_memory":
            options = GaussVDSampler.extend_cma_options(options)
            options["CMA_sampler_options"] = {"randn": options["randn"]}  # else it draws from NumPy's global generator
        if any(parts):
            options["CMA_stds"] = [WIDEST_STEP / sigma0 if k else 1.0 for k in parts]
            options["minstd"] = [1 / (4 * k) if k else 0.0 for k in parts]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es = cma.CMAEvolutionStrategy(list(mean), sigma0, options)
        self._flat = self._noisy = 0
        self._next = self._draw()

    def _draw(self) -> np.ndarray:
        """Return a point drawn from the present Gaussian."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            (point,) = self._es.ask(1)
        drawn: np.ndarray = point
        return drawn

    def _update(self) -> None:
        """Update the Gaussian with the points told since the last time, or start again elsewhere."""
        told, self._told_points = sorted(self._told_points, key=lambda t: (t.rank, t.number)), []
        if told[0].rank[0] == FAILED:
            return
        self._flat = self._flat + 1 if len({t.rank for t in told if t.rank[0] != FAILED}) == 1 else 0
        complete = [t for t in told if t.rank[0] == COMPLETE]
        spread = float(np.std([t.rank[1] for t in complete])) if complete else 0.0
        noisy = bool(complete) and 0.0 < spread < float(np.mean([t.error for t in complete]))
        self._noisy = self._noisy + 1 if noisy else 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._es.tell([t.point for t in told], list(range(len(told))))
        if self._stuck():
            self._population *= 2
            self._flying = {}
            self._begin(self._rng.random(len(self.dimensions)).tolist(), self._sigma0 or 1 / 6)
            return
        self._mean_is_due = True
        if self._noisy == NOISY_UPDATES:
            self._population = math.ceil(GROWTH * self._population)
            self._begin(self._mean(), self._widest())
        else:
            self._next = self._draw()  # pycma wants to be asked between any two updates

    def _steps(self) -> list[float]:
        """Return the steps along the numbers."""
        return [float(step) for d, step in zip(self.dimensions, self._es.stds, strict=False) if not d.choices]

    def _widest(self) -> float:
        """Return the widest step, as one to begin with."""
        return min(max(self._steps(), default=1 / 6), WIDEST_STEP)

    def _stuck(self) -> bool:
        """Say whether this run of CMA-ES has nothing more to find."""
        steps = self._steps()
        narrow = bool(steps) and max(steps) < SMALLEST_STEP
        return bool(narrow or self._flat >= FLAT_UPDATES or self._es.stop())

    def _mean(self) -> list[float]:
        """Return the mean of the Gaussian, inside the cube."""
        return [float(u) for u in self._es.result.xfavorite[: len(self.dimensions)]]

    def _error(self, result: Result) -> float:
        """Return the standard error of a joined score: how far each value's error would lower it, root of squares."""

        def joined(values: Sequence[float]) -> float:
            return self._scalarize(self._without_floors, values)

        at, values, errors = joined(result.values), list(result.values), result.errors
        lower = [joined([*values[:i], values[i] - error, *values[i + 1 :]]) for i, error in enumerate(errors)]
        return math.hypot(*(at - score for score in lower))
