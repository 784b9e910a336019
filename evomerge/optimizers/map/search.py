"""MAP (arXiv 2406.07529) as an optimizer: quadratics of the merge coefficients, their front re-evaluated, fitted again.

After a starting design every proposal is the candidate with the largest expected gain (`goals.py`) under quadratics
that are fitted to all results so far; candidates are the front that NSGA-III finds on the surrogates (the peak of the
quadratic where there is one objective) and points near it. Points in flight count as if they had scored what is
predicted, so that parallel proposals keep apart and none waits. Where no surrogate is to be trusted, points that fill
the space and points near the best ones take turns.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evomerge.checks import whole
from evomerge.errors import UsageError, nearest
from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.map import forms
from evomerge.optimizers.map.candidates import inside, predicted_front
from evomerge.optimizers.map.design import Filler, corners, default_size
from evomerge.optimizers.map.goals import FrontGoal, Goal, gains, normals
from evomerge.optimizers.map.surrogates import MIN_POINTS, Surrogates, fit_surrogates
from evomerge.optimizers.map.warp import WARPS
from evomerge.optimizers.replayed import ReplayedOptimizer

Array = npt.NDArray[np.float64]

#: Points nearer to a known one than this, in every coordinate, are not proposed.
APART = 0.01
#: The same for points that failed: what surrounds them is likely to fail too, and no surrogate knows.
APART_FROM_FAILURES = 0.1
#: Generations of NSGA-III when it starts afresh, and when it goes on from its last front.
FIRST_GENERATIONS, MORE_GENERATIONS = 30, 10


class MapSearch(ReplayedOptimizer):
    """MAP with refitting.

    Args:
        problem: what is to be optimised.
        start: points to know before the first fit, starting points included; default `design.default_size`.
        form: full, group, low_rank, diagonal, or auto: the one that predicts left-out points best among those with
            no more coefficients than points.
        coefficients: `weights`: products of merge weights only; other numbers have a linear and a squared term,
            choices a constant a value. `all`: products of all numbers.
        warp: logit (accuracies), softplus (losses), identity, or auto: by the scores.
    """

    multi_objective = True
    #: Standard errors that the searched predictions lie above the mean.
    _width = 0.0

    def __init__(
        self,
        problem: Problem,
        *,
        start: int | None = None,
        form: str = "auto",
        coefficients: str = "weights",
        warp: str = "auto",
    ) -> None:
        super().__init__(problem)
        if start is not None:
            whole(start, "optimizer map: start", least=MIN_POINTS)
        _one_of("form", form, ("auto", *forms.FORMS))
        _one_of("coefficients", coefficients, forms.COEFFICIENTS)
        _one_of("warp", warp, ("auto", *WARPS))
        self._form, self._coefficients, self._warp = form, coefficients, warp
        count = len(forms.code(self.dimensions, np.zeros((1, len(self.dimensions))))[0])
        self._start = start or default_size(count)
        self._filler = Filler(len(self.dimensions), problem.seed)
        self._corners = corners(self.dimensions)
        self._known: list[tuple[float, ...]] = []  # every vector proposed or told
        self._points: list[tuple[float, ...]] = []
        self._results: list[Result] = []
        self._failed: list[tuple[float, ...]] = []
        self._surrogates: Surrogates | None = None
        self._fitted = 0  # results that the surrogates have seen
        self._front: Array | None = None
        self._searched = 0  # results when the front was last searched for

    def describe(self, budget: int | None) -> list[str]:
        """Return the number of coefficients of each form against the budget, and what is done with the points."""
        sizes = [f"{form.name} {form.size}" for form in forms.build_all(self.dimensions, self._coefficients)]
        smallest = min(forms.build_all(self.dimensions, self._coefficients), key=lambda form: form.size)
        lines = [f"map: coefficients of a quadratic for each task: {', '.join(sizes)}"]
        if self._form != "auto":
            lines = [f"map: {forms.build(self._form, self.dimensions, self._coefficients).size} coefficients a task"]
        if budget is not None:
            lines[0] += f"; {budget} candidates, {min(self._start, budget)} of them the starting design"
            if budget < 1.5 * smallest.size:
                lines.append(
                    f"map: {smallest.size} coefficients are many for {budget} candidates: "
                    "search fewer dimensions (space.granularity) or score more"
                )
        return lines

    @property
    def surrogates(self) -> Surrogates | None:
        """The surrogates of all results so far, None where these are too few; `describe` says if they are trusted."""
        self._refit()
        return self._surrogates

    def _propose(self) -> Sequence[float]:
        vector = self._next()
        self._known.append(vector)
        return vector

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        if not own:
            self._known.append(proposal.vector)
        if isinstance(outcome, Result):
            self._points.append(proposal.vector)
            self._results.append(outcome)
        else:
            self._failed.append(proposal.vector)

    def _next(self) -> tuple[float, ...]:
        if len(self._known) < self._start or len(self._results) < max(MIN_POINTS, self._start // 2):
            return self._design()
        self._refit()
        surrogates = self._surrogates
        if surrogates is None or not any(model.diagnostics.trusted for model in surrogates.models):
            return self._blind()
        return self._pick(surrogates) or self._fill()

    # ---- without surrogates --------------------------------------------------------------------------------------

    def _design(self) -> tuple[float, ...]:
        """Return the next point of the design: one that fills the space, then the corners, then filling ones."""
        while self._corners and self._known:
            corner = self._corners.pop(0)
            if self._new(np.array([corner]))[0]:
                return corner
        return self._fill()

    def _fill(self) -> tuple[float, ...]:
        return self._filler.next(self._known)

    def _blind(self) -> tuple[float, ...]:
        """Return a filling point or, in turn, one near the best points: there is no surrogate to go by."""
        if self.next_number % 2 == 0:
            return self._fill()
        goal = self._goal()
        utilities = goal.utilities(np.array([result.values for result in self._results]))
        rng = self._rng()
        best = self._points[int(np.argmax(utilities[:, rng.integers(utilities.shape[1])]))]
        vector = np.clip(np.array(best) + 0.1 * rng.standard_normal(len(best)), 0.0, 1.0)
        for place, dimension in enumerate(self.dimensions):
            if dimension.choices:
                vector[place] = rng.random() if rng.random() < 0.2 else best[place]
        return tuple(vector.tolist()) if self._new(vector[None])[0] else self._fill()

    # ---- with surrogates -----------------------------------------------------------------------------------------

    def _refit(self) -> None:
        if self._fitted == len(self._results) or len(self._results) < MIN_POINTS:
            return
        self._fitted = len(self._results)
        self._surrogates = fit_surrogates(
            self.dimensions,
            self.objectives,
            self._points,
            [result.values for result in self._results],
            [result.items for result in self._results],
            errors=[result.errors for result in self._results],
            form=self._form,
            coefficients=self._coefficients,
            warps=self._warp,
        )

    def _pick(self, surrogates: Surrogates) -> tuple[float, ...] | None:
        """Return the candidate with the largest expected gain, None if there is no new one."""
        pool = self._pool(surrogates)
        if not len(pool):
            return None
        return tuple(pool[int(np.argmax(self._worth(surrogates, pool)))].tolist())

    def _worth(self, surrogates: Surrogates, pool: Array) -> Array:
        """Return the expected gain of each candidate."""
        goal = self._goal()
        return gains(goal, self._best(surrogates, goal), surrogates.draws(pool, normals(len(self.objectives))))

    def _pool(self, surrogates: Surrogates) -> Array:
        """Return new candidates: the predicted front, points near it, and some from anywhere in the sampled box."""
        rng = self._rng()
        due = self._searched + max(4, len(self._results) // 6)
        if self._front is None or len(self._results) >= due or len(self.objectives) == 1:
            self._front = predicted_front(
                surrogates,
                weights=self._front_weights(),
                seed=int(rng.integers(2**31)),
                generations=FIRST_GENERATIONS if self._front is None else MORE_GENERATIONS,
                width=self._width,
                starts=self._front,
            )
            self._searched = len(self._results)
        lower, upper = surrogates.box()
        n, d = 64, len(lower)
        near = self._front[rng.integers(len(self._front), size=n)]
        near = near + rng.choice([0.02, 0.05, 0.1], size=(n, 1)) * rng.standard_normal((n, d))
        for place, dimension in enumerate(self.dimensions):
            if dimension.choices:
                near[:, place] = np.where(rng.random(n) < 0.2, rng.random(n), near[:, place])
        anywhere = lower + (upper - lower) * rng.random((n, d))
        others = inside(surrogates, np.clip(np.vstack([near, anywhere]), lower, upper))
        pool = np.vstack([self._front, others])
        pool = pool[self._new(pool)]
        safe = self._apart(pool, self._failed, APART_FROM_FAILURES)
        return pool[safe] if safe.any() else pool

    def _best(self, surrogates: Surrogates, goal: Goal) -> Array:
        """Return the best utilities so far: of scored points without their luck, of those in flight as predicted."""
        scored = set(self._points)
        flying = [proposal.vector for proposal in self._waiting.values() if proposal.vector not in scored]
        values = surrogates.observed()
        if flying:
            values = np.vstack([values, surrogates.means(np.array(flying))])
        return np.asarray(goal.utilities(values).max(axis=0))

    def _goal(self) -> Goal:
        return FrontGoal(self.objectives, np.array([result.values for result in self._results]))

    def _front_weights(self) -> list[float]:
        weights = [objective.weight for objective in self.objectives]
        return weights if max(weights) > 0 else [1.0] * len(weights)

    def _new(self, pool: Array) -> npt.NDArray[np.bool_]:
        """Say which points lie apart from every known one."""
        return self._apart(pool, self._known, APART)

    def _apart(self, pool: Array, others: Sequence[Sequence[float]], least: float) -> npt.NDArray[np.bool_]:
        """Say which points differ from each of the others: in a number by `least`, or by a choice."""
        if not others:
            return np.ones(len(pool), dtype=bool)
        known = np.array(others)
        near = np.ones((len(pool), len(known)), dtype=bool)
        for place, dimension in enumerate(self.dimensions):
            k = len(dimension.choices)
            a, b = pool[:, place, None], known[:, place]
            if k:
                near &= np.minimum((a * k).astype(int), k - 1) == np.minimum((b * k).astype(int), k - 1)
            else:
                near &= np.abs(a - b) < least
        return np.asarray(~near.any(axis=1))

    def _rng(self) -> np.random.Generator:
        """Return the generator of the next proposal."""
        return np.random.default_rng([self.seed, self.next_number])


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"optimizer map: unknown {name} {value!r}; {nearest(value, known)}")
