"""Nested MAP: many models merged two by two in a tree, for preferences that are given beforehand.

A node of the tree is a vector of weights, one an expert: a leaf is an expert alone, a pair is left x a + right x b, and
a and b are found by MAP in two dimensions, with a handful of points, for the tasks of the leaves below. On each level
the nodes whose scores on their own tasks are closest are paired (arXiv 2406.07529). So K experts cost K - 1 times a
handful of candidates, and every one of them is a recipe: nothing is baked in. What is left of the budget goes to MAP
over the whole space, from all that was scored, for the same preferences.

Where an expert has several weights (one a group of layers) the tree gives them one value; coordinates that are no
weights stand where they change least until the tree is done.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.checks import whole
from evomerge.errors import UsageError
from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.map.design import neutral, weights_of
from evomerge.optimizers.map.goals import Goal, SingleGoal, gains, normals
from evomerge.optimizers.map.search import MapSearch
from evomerge.optimizers.map.surrogates import MIN_POINTS, Surrogates, fit_surrogates
from evomerge.optimizers.scalarization import Scalarization, weighted_sum
from evomerge.recipes import Dimension

Array = npt.NDArray[np.float64]

#: Factors of the two nodes that a pair tries first.
_FIRST = ((0.5, 0.5), (1.0, 1.0), (1.0, 0.5), (0.5, 1.0))
#: Values of each factor among which the next point of a pair is chosen.
_GRID = 15
#: Candidates, the most promising by one standard error, whose expected gain is computed: scalarizations are slow.
_SHORT = 40


@dataclass(frozen=True)
class Node:
    """Weights of the experts, and what they scored.

    Attributes:
        weights: one an expert, 0 for those that are not below.
        experts: places of those below.
        tasks: places of their tasks, all if they have none of their own.
        result: what the weights scored; None if that failed.
    """

    weights: tuple[float, ...]
    experts: tuple[int, ...]
    tasks: tuple[int, ...]
    result: Result | None


@dataclass
class Pair:
    """Two nodes on their way to be one."""

    left: Node
    right: Node
    tasks: tuple[int, ...]
    caps: tuple[float, float]  # the largest factors that leave no weight out of bounds
    asked: dict[int, tuple[float, float]] = field(default_factory=dict)  # number -> the two factors
    told: dict[int, Result | None] = field(default_factory=dict)

    def weights(self, factors: tuple[float, float]) -> tuple[float, ...]:
        """Return the weights of the experts."""
        a, b = factors
        return tuple(a * x + b * y for x, y in zip(self.left.weights, self.right.weights, strict=True))


class NestedMap(MapSearch):
    """A tree of pairwise MAPs, then MAP over the whole space.

    Args:
        problem, start, form, coefficients, warp: as in `MapSearch`.
        scalarization: the preferences: joins the scores, by the objectives' weights.
        points: candidates that each pair scores, at least 5.

    Raises `UsageError` for a space without one weight (or one for each group of tensors) an expert.
    """

    multi_objective = False

    def __init__(
        self,
        problem: Problem,
        *,
        scalarization: Scalarization = weighted_sum,
        points: int = 8,
        start: int | None = None,
        form: str = "auto",
        coefficients: str = "weights",
        warp: str = "auto",
    ) -> None:
        super().__init__(problem, start=start, form=form, coefficients=coefficients, warp=warp)
        whole(points, "optimizer nested_map: points", least=5)
        self._scalarize, self._points_a_pair = scalarization, points
        self._experts = experts_of(self.dimensions)
        found = weights_of(self.dimensions)
        self._high = [min(d.high for d in found if d.expert == expert) for expert in self._experts]
        self._low = [max(d.low for d in found if d.expert == expert) for expert in self._experts]
        self._alone = {self._vector(weights): k for k, weights in enumerate(self._one_hots())}
        self._leaves: dict[int, Result | None] = {}
        self._asked_leaves: set[int] = set()
        self._begun = False
        self._pairs: list[Pair] = []
        self._odd: list[Node] = []
        self._done = len(self._experts) < 2

    def describe(self, budget: int | None) -> list[str]:
        """Return what the tree costs, and what comes after it."""
        k, weights = len(self._experts), len(weights_of(self.dimensions))
        lines = [f"nested_map: {k} experts, {k - 1} merges of two, {(k - 1) * self._points_a_pair} candidates"]
        if budget is not None:
            lines[0] += f" of {budget}; the rest go to map over all {len(self.dimensions)} dimensions"
        if weights > k:
            lines.append(f"nested_map: in the tree the {weights} weights are tied to one an expert")
        return [*lines, *super().describe(budget)]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        super()._learn(proposal, outcome, own=own)
        result = outcome if isinstance(outcome, Result) else None
        for vector, expert in self._alone.items():
            if self._leaves.get(expert) is None and np.allclose(vector, proposal.vector, atol=1e-6):
                self._leaves[expert] = result
        for pair in self._pairs:
            if proposal.number in pair.asked:
                pair.told[proposal.number] = result

    def _save(self) -> dict[str, Any] | None:
        return None  # of the tree there is no snapshot

    def _goal(self, values: Array) -> Goal:
        return SingleGoal(self.objectives, self._scalarize)

    def _worth(self, surrogates: Surrogates, pool: Array) -> Array:
        goal = self._goal(self._values.all)
        return _gains(goal, self._best(surrogates, goal), surrogates, pool)

    def _next(self) -> tuple[float, ...]:
        while not self._done:
            if not self._begun:
                if len(self._leaves) < len(self._experts):
                    return self._leaf()
                self._begun = True
                self._level(self._grow())
            elif all(len(pair.told) >= self._points_a_pair for pair in self._pairs):
                self._level([*(self._finish(pair) for pair in self._pairs), *self._odd])
            else:
                return self._pair_point(min(self._pairs, key=lambda pair: len(pair.asked)))
        return super()._next()

    # ---- the tree ------------------------------------------------------------------------------------------------

    def _leaf(self) -> tuple[float, ...]:
        """Return an expert alone that is not scored yet; before and between them a random mix."""
        for vector, expert in self._alone.items():
            if self._known and expert not in self._leaves and expert not in self._asked_leaves:
                self._asked_leaves.add(expert)
                return vector
        mix = self._rng().dirichlet(np.ones(len(self._experts)))
        return self._fresh(tuple((mix * 2.0 * self._rng().random()).tolist()))

    def _grow(self) -> list[Node]:
        """Return the leaves; a task belongs to the expert that is best at it."""
        scored = sorted((k, result) for k, result in self._leaves.items() if result is not None)
        owners = [
            max(scored, key=lambda leaf, j=task: leaf[1].values[j])[0] if scored else None  # type: ignore[misc]
            for task in range(len(self.objectives))
        ]
        return [
            Node(weights, (k,), tuple(j for j, owner in enumerate(owners) if owner == k), self._leaves[k])
            for k, weights in enumerate(self._one_hots())
        ]

    def _level(self, nodes: list[Node]) -> None:
        """Pair the nodes whose scores are closest; an odd one waits for the next level."""
        self._pairs, self._odd = [], []
        self._done = len(nodes) == 1
        left = sorted(nodes, key=self._score)
        while len(left) > 1:
            gaps = [self._score(b) - self._score(a) for a, b in pairwise(left)]
            at = int(np.argmin(gaps))
            a, b = left.pop(at), left.pop(at)
            caps = (self._cap(a), self._cap(b))
            tasks = tuple(sorted({*a.tasks, *b.tasks}))
            if not any(self.objectives[task].weight > 0 for task in tasks):
                tasks = tuple(range(len(self.objectives)))
            self._pairs.append(Pair(a, b, tasks, caps))
        self._odd = left

    def _score(self, node: Node) -> float:
        """Return the mean score on the node's own tasks, 0 where it failed."""
        if node.result is None:
            return 0.0
        return float(np.mean([node.result.values[task] for task in node.tasks or range(len(self.objectives))]))

    def _pair_point(self, pair: Pair) -> tuple[float, ...]:
        """Return the next point of a pair: one of the first four, then those that promise most."""
        count = len(pair.asked)
        factors = _FIRST[count] if count < len(_FIRST) else self._factors(pair)
        factors = (min(factors[0], pair.caps[0]), min(factors[1], pair.caps[1]))
        vector = self._vector(pair.weights(factors))
        if not self._new(np.array([vector]))[0]:
            u = self._rng().random(2)
            factors = (float(u[0] * pair.caps[0]), float(u[1] * pair.caps[1]))
            vector = self._fresh(pair.weights(factors))
        pair.asked[self.next_number] = factors
        return vector

    def _data(self, pair: Pair) -> tuple[list[tuple[float, float]], list[Result]]:
        """Return the factors that are scored, the two nodes alone included, and their results."""
        known: list[tuple[tuple[float, float], Result | None]] = [
            ((1.0, 0.0), pair.left.result),
            ((0.0, 1.0), pair.right.result),
            *((pair.asked[number], result) for number, result in pair.told.items()),
        ]
        scored = [(factors, result) for factors, result in known if result is not None]
        return [factors for factors, _ in scored], [result for _, result in scored]

    def _factors(self, pair: Pair) -> tuple[float, float]:
        """Return the factors with the largest expected gain in the tasks below; random ones if little is known."""
        factors, results = self._data(pair)
        if len(results) < MIN_POINTS:
            u = self._rng().random(2)
            return float(u[0] * pair.caps[0]), float(u[1] * pair.caps[1])
        surrogates = self._fit_pair(pair, factors, results)
        ticks = np.linspace(0.0, 1.0, _GRID)
        grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
        caps = np.array(pair.caps)
        vectors = np.array([self._vector(pair.weights((a, b))) for a, b in (grid * caps).tolist()])
        grid = grid[new] if (new := self._new(vectors)).any() else grid
        goal = SingleGoal(surrogates.objectives, self._scalarize)
        flying = [pair.asked[number] for number in pair.asked if number not in pair.told]
        values = surrogates.observed()
        if flying:
            values = np.vstack([values, surrogates.means(np.array(flying) / caps)])
        best = goal.utilities(values).max(axis=0)
        worth = _gains(goal, best, surrogates, grid)
        a, b = (grid[int(np.argmax(worth))] * caps).tolist()
        return a, b

    def _fit_pair(self, pair: Pair, factors: list[tuple[float, float]], results: list[Result]) -> Surrogates:
        return fit_surrogates(
            [Dimension(name, "weight", name, high=cap) for name, cap in zip(("left", "right"), pair.caps, strict=True)],
            [self.objectives[task] for task in pair.tasks],
            np.array(factors) / np.array(pair.caps),
            [[result.values[task] for task in pair.tasks] for result in results],
            [[result.items[task] for task in pair.tasks] for result in results],
            errors=[[result.errors[task] for task in pair.tasks] for result in results],
            form=self._form if self._form in ("full", "diagonal") else "auto",
            warps=self._warp,
        )

    def _finish(self, pair: Pair) -> Node:
        """Return the pair as one node: its best point, luck set aside."""
        factors, results = self._data(pair)
        experts = (*pair.left.experts, *pair.right.experts)
        if not results:
            return Node(pair.weights((0.5, 0.5)), experts, pair.tasks, None)
        if len(results) >= MIN_POINTS:
            surrogates = self._fit_pair(pair, factors, results)
            values = surrogates.observed()
        else:
            values = np.array([[result.values[task] for task in pair.tasks] for result in results])
        goal = SingleGoal([self.objectives[task] for task in pair.tasks], self._scalarize)
        best = int(np.argmax(goal.utilities(values)[:, 0]))
        return Node(pair.weights(factors[best]), experts, pair.tasks, results[best])

    # ---- weights and vectors -------------------------------------------------------------------------------------

    def _one_hots(self) -> list[tuple[float, ...]]:
        k = len(self._experts)
        return [tuple(float(expert == other) for other in range(k)) for expert in range(k)]

    def _cap(self, node: Node) -> float:
        pairs = zip(self._high, node.weights, strict=True)
        return min((high / weight for high, weight in pairs if weight > 0), default=1.0)

    def _vector(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the point of the cube where every weight of an expert has one value, the rest being neutral."""
        by_expert = dict(zip(self._experts, weights, strict=True))
        point = []
        for dimension in self.dimensions:
            if dimension.parameter == "weight" and dimension.expert is not None and not dimension.choices:
                weight = min(max(by_expert[dimension.expert], dimension.low), dimension.high)
                point.append((weight - dimension.low) / (dimension.high - dimension.low))
            else:
                point.append(neutral(dimension))
        return tuple(point)

    def _fresh(self, weights: Sequence[float]) -> tuple[float, ...]:
        """Return the point of these weights if it is new, else one that fills the space."""
        vector = self._vector(weights)
        return vector if self._new(np.array([vector]))[0] else self._fill()


def _gains(goal: Goal, best: Array, surrogates: Surrogates, points: Array) -> Array:
    """Return the expected gains of the most promising points, minus infinity for the others."""
    short = np.argsort(-goal.utilities(surrogates.bounds(points, 1.0))[:, 0], kind="stable")[:_SHORT]
    worth = np.full(len(points), -np.inf)
    worth[short] = gains(goal, best, surrogates.draws(points[short], normals(len(surrogates.objectives))))
    return worth


def experts_of(dimensions: Sequence[Dimension]) -> list[str]:
    """Return the experts that the tree merges; `UsageError` where the space gives them no weights of their own."""
    found: dict[str, list[Dimension]] = {}
    for dimension in weights_of(dimensions):
        if dimension.expert is not None:
            found.setdefault(dimension.expert, []).append(dimension)
    missing = sorted({d.expert for d in dimensions if d.expert is not None} - set(found))
    if not found or missing:
        whose = f"of {missing[0]} " if missing else ""
        raise UsageError(f"optimizer nested_map: no weight {whose}is searched; it merges experts by one weight each")
    for expert, own in found.items():
        if len(own) > 1 and any(dimension.group is None for dimension in own):
            raise UsageError(
                f"optimizer nested_map: the weight of {expert} is a shape of {len(own)} numbers; search one weight an "
                "expert (space=global) or take map"
            )
    return sorted(found)
