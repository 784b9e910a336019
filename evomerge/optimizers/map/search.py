"""MAP (arXiv 2406.07529) as an optimizer: quadratics of the merge coefficients, their front re-evaluated, fitted again.

After a starting design every proposal is the candidate with the largest expected gain (`goals.py`) under quadratics
that are fitted to all results so far; candidates are the front that NSGA-III finds on the surrogates (the peak of the
quadratic where there is one objective) and points near it. Points in flight count as if they had scored what is
predicted, so that parallel proposals keep apart and none waits. Where no surrogate is to be trusted, points that fill
the space and points near the best ones take turns.

With hundreds of points in flight a fit for each result would tell nothing new and hold up the workers: then a fit
serves several results and several proposals, and of thousands of results some hundred are fitted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

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
from evomerge.optimizers.points import Rows
from evomerge.optimizers.replayed import ReplayedOptimizer

Array = npt.NDArray[np.float64]

#: Points nearer to a known one than this, in every coordinate, are not proposed.
APART = 0.01
#: The same for points that failed: what surrounds them is likely to fail too, and no surrogate knows.
APART_FROM_FAILURES = 0.1
#: Generations of NSGA-III when it starts afresh, and when it goes on from its last front.
FIRST_GENERATIONS, MORE_GENERATIONS = 30, 10
#: So many points in flight share a proposal's fit and its candidates; one fit waits for this part of the results.
SHARING, PART = 20, 1e-4
#: Results that are fitted at most: half of them the best, the others from all over the search.
FITTED = 600
#: A filling point is compared with this many of the latest ones.
COMPARED = 2000
# Pairs of points that are compared at a time.
_PAIRS = 2_000_000


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
        self._known = Rows(len(self.dimensions))  # every vector proposed or told
        self._points = Rows(len(self.dimensions))  # of results, as are their
        self._values, self._errors, self._items = (Rows(len(self.objectives)) for _ in range(3))
        self._failed = Rows(len(self.dimensions))
        self._queue: list[tuple[float, ...]] = []  # chosen, not yet proposed
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
        self._refit(1)
        return self._surrogates

    def _propose(self) -> Sequence[float]:
        vector = self._queue.pop(0) if self._queue else self._next()
        self._known.append(vector)
        return vector

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        if not own:
            self._known.append(proposal.vector)
        if isinstance(outcome, Result):
            self._points.append(proposal.vector)
            self._values.append(outcome.values)
            self._errors.append(outcome.errors)
            self._items.append(outcome.items)
        else:
            self._failed.append(proposal.vector)

    def _recall(self, proposal: Proposal, outcome: Result | Failure | None) -> None:
        if outcome is None:
            self._known.append(proposal.vector)
        else:
            self._learn(proposal, outcome, own=True)

    def _save(self) -> dict[str, Any] | None:
        return {
            "queue": [list(vector) for vector in self._queue],
            "fitted": self._fitted,
            "searched": self._searched,
            "front": self._front,
            "corners": len(self._corners),
            "filled": self._filler.count,
        }

    def _load(self, state: Mapping[str, Any]) -> None:
        self._queue = [tuple(vector) for vector in state["queue"]]
        self._searched, self._front = state["searched"], state["front"]
        self._corners = self._corners[len(self._corners) - state["corners"] :]
        self._filler.skip(state["filled"])
        if state["fitted"]:
            self._fit(state["fitted"])

    def _next(self) -> tuple[float, ...]:
        if len(self._known) < self._start or len(self._values) < max(MIN_POINTS, self._start // 2):
            return self._design()
        flying = len(self._waiting)
        self._refit(max(1, flying // SHARING, int(PART * flying * len(self._values))))
        surrogates, count = self._surrogates, max(1, flying // SHARING)
        if surrogates is None or not any(model.diagnostics.trusted for model in surrogates.models):
            return self._blind()
        first, *self._queue = self._picks(surrogates, count) or [self._fill()]
        return first

    # ---- without surrogates --------------------------------------------------------------------------------------

    def _design(self) -> tuple[float, ...]:
        """Return the next point of the design: one that fills the space, then the corners, then filling ones."""
        while self._corners and self._known:
            corner = self._corners.pop(0)
            if self._new(np.array([corner]))[0]:
                return corner
        return self._fill()

    def _fill(self) -> tuple[float, ...]:
        return self._filler.next(self._known.last(COMPARED))

    def _blind(self) -> tuple[float, ...]:
        """Return a filling point or, in turn, one near the best points: there is no surrogate to go by."""
        if self.next_number % 2 == 0:
            return self._fill()
        utilities = self._goal(self._values.all).utilities(self._values.all)
        rng = self._rng()
        best = self._points.all[int(np.argmax(utilities[:, rng.integers(utilities.shape[1])]))]
        vector = np.clip(np.array(best) + 0.1 * rng.standard_normal(len(best)), 0.0, 1.0)
        for place, dimension in enumerate(self.dimensions):
            if dimension.choices:
                vector[place] = rng.random() if rng.random() < 0.2 else best[place]
        return tuple(vector.tolist()) if self._new(vector[None])[0] else self._fill()

    # ---- with surrogates -----------------------------------------------------------------------------------------

    def _refit(self, step: int) -> None:
        """Fit anew if there are so many new results."""
        if len(self._values) >= max(self._fitted + step, MIN_POINTS):
            self._fit(len(self._values))

    def _fit(self, count: int) -> None:
        """Fit to the first `count` results."""
        self._fitted = count
        some = self._worth_fitting(count)
        self._surrogates = fit_surrogates(
            self.dimensions,
            self.objectives,
            self._points.all[some],
            self._values.all[some],
            self._items.all[some],
            errors=self._errors.all[some],
            form=self._form,
            coefficients=self._coefficients,
            warps=self._warp,
        )

    def _worth_fitting(self, count: int) -> npt.NDArray[np.int64]:
        """Return the places of the results to fit, in order: all, or the best by any utility and some of the others."""
        if count <= FITTED:
            return np.arange(count)
        values = self._values.all[:count]
        utilities = self._goal(values).utilities(values)
        ranks = np.argsort(np.argsort(-utilities, axis=0, kind="stable"), axis=0, kind="stable").min(axis=1)
        order = np.argsort(ranks, kind="stable")
        best, rest = order[: FITTED // 2], np.sort(order[FITTED // 2 :])
        others = rest[np.linspace(0, len(rest) - 1, FITTED - len(best)).astype(np.int64)]
        return np.sort(np.concatenate([best, others]))

    def _picks(self, surrogates: Surrogates, count: int) -> list[tuple[float, ...]]:
        """Return up to `count` new candidates with the largest expected gain, apart from each other."""
        pool = self._pool(surrogates, 64 * max(1, count // 8))
        if not len(pool):
            return []
        chosen: list[tuple[float, ...]] = []
        for place in np.argsort(-self._worth(surrogates, pool), kind="stable"):
            if self._apart(pool[place : place + 1], np.array(chosen), APART)[0]:
                chosen.append(tuple(pool[place].tolist()))
            if len(chosen) == count:
                break
        return chosen

    def _worth(self, surrogates: Surrogates, pool: Array) -> Array:
        """Return the expected gain of each candidate."""
        goal = self._goal(self._values.all)
        return gains(goal, self._best(surrogates, goal), surrogates.draws(pool, normals(len(self.objectives))))

    def _pool(self, surrogates: Surrogates, n: int) -> Array:
        """Return new candidates: the predicted front, n points near it, and n from anywhere in the sampled box."""
        rng = self._rng()
        results = len(self._values)
        due = self._searched + max(4, results // 6)
        if self._front is None or results >= due or len(self.objectives) == 1:
            self._front = predicted_front(
                surrogates,
                weights=self._front_weights(),
                seed=int(rng.integers(2**31)),
                generations=FIRST_GENERATIONS if self._front is None else MORE_GENERATIONS,
                width=self._width,
                starts=self._front,
            )
            self._searched = results
        lower, upper = surrogates.box()
        d = len(lower)
        near = self._front[rng.integers(len(self._front), size=n)]
        near = near + rng.choice([0.02, 0.05, 0.1], size=(n, 1)) * rng.standard_normal((n, d))
        for place, dimension in enumerate(self.dimensions):
            if dimension.choices:
                near[:, place] = np.where(rng.random(n) < 0.2, rng.random(n), near[:, place])
        anywhere = lower + (upper - lower) * rng.random((n, d))
        others = inside(surrogates, np.clip(np.vstack([near, anywhere]), lower, upper))
        pool = np.vstack([self._front, others])
        pool = pool[self._new(pool)]
        safe = self._apart(pool, self._failed.all, APART_FROM_FAILURES)
        return pool[safe] if safe.any() else pool

    def _best(self, surrogates: Surrogates, goal: Goal) -> Array:
        """Return the best utilities so far: of scored points without their luck, of those in flight as predicted."""
        flying = [proposal.vector for proposal in self._waiting.values()]
        values = surrogates.observed()
        if flying:
            values = np.vstack([values, surrogates.means(np.array(flying))])
        return np.asarray(goal.utilities(values).max(axis=0))

    def _goal(self, values: Array) -> Goal:
        """Return what is to be made large, `values` (n, m) being the scores so far."""
        return FrontGoal(self.objectives, values)

    def _front_weights(self) -> list[float]:
        weights = [objective.weight for objective in self.objectives]
        return weights if max(weights) > 0 else [1.0] * len(weights)

    def _new(self, pool: Array) -> npt.NDArray[np.bool_]:
        """Say which points lie apart from every known one."""
        return self._apart(pool, self._known.all, APART)

    def _apart(self, pool: Array, known: Array, least: float) -> npt.NDArray[np.bool_]:
        """Say which points differ from each of the others: in a number by `least`, or by a choice."""
        apart = np.ones(len(pool), dtype=bool)
        if not len(known):
            return apart
        codes = [len(dimension.choices) for dimension in self.dimensions]
        rows = max(1, _PAIRS // len(known))
        for start in range(0, len(pool), rows):
            block = pool[start : start + rows]
            ours = others = np.empty(0, dtype=np.int64)  # pairs that do not differ so far
            for place, k in enumerate(codes):
                a, b = block[:, place], known[:, place]
                if k:
                    a, b = np.minimum((a * k).astype(int), k - 1), np.minimum((b * k).astype(int), k - 1)
                if place == 0:
                    ours, others = np.nonzero(a[:, None] == b if k else np.abs(a[:, None] - b) < least)
                else:
                    near = a[ours] == b[others] if k else np.abs(a[ours] - b[others]) < least
                    ours, others = ours[near], others[near]
            apart[start + ours] = False
        return apart

    def _rng(self) -> np.random.Generator:
        """Return the generator of the next proposal."""
        return np.random.default_rng([self.seed, self.next_number])


def _one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError(f"optimizer map: unknown {name} {value!r}; {nearest(value, known)}")
