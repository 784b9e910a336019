"""Landscapes made by formula, in the shapes that real merges show.

A candidate has a weight w in [0, 1.5] and, where asked for, a drop rate d in [0, 0.9] for each expert and each group of
layers. The ability of a merge at a task (a log-odds) falls with the distance to the task's own best weights: like a
square near the best, in proportion farther off. The distance counts

- groups of layers by their importance, which differs, and differs a little from task to task;
- the weights of the task's own expert, and, less, what the other experts disturb; the sum of both (interference);
- some random pairs of coordinates, which must be right together (interactions);
- drop rates, little, and least at some rate above zero (DARE's plateau).

Beyond some size of what is added to the base, the second moment w^2 / (1 - d) of the dropped and rescaled task vectors
and the square of the summed weights, everything breaks: the cliff, of large weights and large drop rates alike. Scores
are a logistic function of the ability between a floor and a ceiling. Best weights add up to more than 1.

Ability is a concave function of the vector, so one objective has one optimum, known by construction, and every point
of the front can be found by climbing (Chebyshev scalarization). This file knows nothing about optimizers.
"""

from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import expit

from evomerge.landscapes.items import Thresholds, Traits, Vector
from evomerge.landscapes.landscape import Landscape, Sample
from evomerge.landscapes.solve import Solution
from evomerge.recipes import Dimension

WEIGHT, DROP_RATE = 1.5, 0.9  # upper bounds
#: Uniform weights among the baselines.
GRID = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
FLOOR, CEILING = 0.02, 0.95
#: Log-odds: lost with distance, of drop rates and of interactions against weights; lost beyond the cliff's edge.
FALL, DROPPING, PAIRING, CLIFF = 3.0, 0.5, 0.2, 2.0


class MergeLandscape(Landscape):
    """Task arithmetic with K experts, G groups of layers, and drop rates on request.

    The vector holds the weights, expert by expert and group by group, and then the drop rates in the same order.

    Args:
        name: of the landscape.
        experts: K, at least 1.
        groups: G, at least 1.
        tasks: at most as many as experts. Task i is what expert i has learnt; a single task profits from all experts.
        drop_rates: search them too; else they are 0.
        seed: of the shape.
        traits: of the items.
    """

    def __init__(
        self,
        name: str,
        *,
        experts: int,
        groups: int,
        tasks: int,
        drop_rates: bool = False,
        seed: int = 0,
        traits: Traits | None = None,
    ) -> None:
        if not 1 <= tasks <= experts or groups < 1:
            raise ValueError(
                f"{tasks} tasks, {experts} experts, {groups} groups: need 1 <= tasks <= experts, groups >= 1"
            )
        rng = np.random.default_rng([seed, experts, groups, tasks, drop_rates])
        self._shape, self._drop_rates, self._seed = (experts, groups), drop_rates, seed
        self._traits = traits or Traits()

        common = rng.standard_normal(groups)
        profile = np.exp(0.9 * common + 0.4 * rng.standard_normal((tasks, groups)))
        #: Importance of the groups for each task, shape (tasks, groups), 1 in sum.
        self.importance = profile / profile.sum(axis=1, keepdims=True)
        own = np.eye(tasks, experts, dtype=np.bool_)
        # What each expert does for each task: pulls (how much its weight counts), targets (which weight is best).
        if tasks == 1:
            self._pulls = rng.uniform(0.6, 1.0, (1, experts))
            means = rng.uniform(0.4, 1.0, (1, experts))
        else:
            self._pulls = np.where(own, 1.0, rng.uniform(0.15, 0.4, (tasks, experts)))
            means = np.where(own, rng.uniform(0.9, 1.05, (tasks, experts)), rng.uniform(0.0, 0.3, (tasks, experts)))
        spread = 0.3 * rng.standard_normal((tasks, experts, groups))
        spread -= (self.importance[:, None] * spread).sum(axis=2, keepdims=True)  # so the mean weight is as drawn
        #: Best weights for each task, shape (tasks, experts, groups).
        self.best_weights = np.clip(means[..., None] + spread, 0.0, 1.3)
        self._sums = np.where(own, 0.2, rng.uniform(0.2, 0.5, (tasks, experts)))
        #: Best drop rates for each task, shape (tasks, experts, groups).
        self.best_drop_rates = rng.uniform(0.1, 0.5, (tasks, experts, groups)) * drop_rates
        n = experts * groups
        self._pairs = rng.integers(0, n, (n // 3, 2)) if n > 2 else np.zeros((0, 2), dtype=np.int64)
        self._signs = rng.choice([-1.0, 1.0], len(self._pairs))
        self._tops = rng.uniform(1.2, 1.9, tasks)
        self._known = np.concatenate([half / high for half, high in self._halves()], axis=1)
        #: Size at which the cliff begins: beyond every task's own best, and beyond all weights at 0.9.
        at_best = float(self._size(*self._split(self._known)).max())
        self._edge = 1.25 * max(at_best, float(self._size(*self._split(self._uniform(0.9)[None])).max()))

        labels = [f"expert{k}" for k in range(experts)]
        # Task vectors are large where it matters, more or less.
        seen = self.importance.mean(axis=0) * np.exp(0.3 * rng.standard_normal(groups))
        seen *= groups / seen.sum()
        dimensions = [
            Dimension(f"{parameter}.{label}.{group}", parameter, label, group, 0.0, high, importance=float(seen[g]))
            for parameter, high in (("weight", WEIGHT), ("drop_rate", DROP_RATE))[: 1 + drop_rates]
            for label in labels
            for g, group in enumerate([f"layers.{g}" for g in range(groups)] if groups > 1 else ["all"])
        ]
        points = {"base": self._uniform(0.0)}
        points |= {label: self._uniform(*np.eye(experts)[k]) for k, label in enumerate(labels)}
        points["average"] = self._uniform(1.0 / experts)
        points |= {f"arithmetic {weight:g}": self._uniform(weight) for weight in GRID}
        names = [f"task{t}" for t in range(tasks)]
        super().__init__(name, dimensions, names, {title: p.tolist() for title, p in points.items()}, labels)

    def means(self, points: ArrayLike) -> Vector:
        """Return the true mean scores of points of shape (n, dimensions), shape (n, tasks)."""
        return np.asarray(FLOOR + (CEILING - FLOOR) * expit(self._ability(*self._split(points))))

    def sample(self, items: int, seed: int) -> Sample:
        """Draw `items` items of each task, from infinitely many."""
        n = len(self.dimensions)
        seeds = [[self._seed, seed, t] for t in range(len(self.tasks))]
        return Sample(
            self.tasks,
            lambda vector: self.means([vector])[0].tolist(),
            [Thresholds(items, n, seed=own, traits=self._traits) for own in seeds],
            base=self.baselines["base"],
            experts=[self.baselines[expert] for expert in self.experts],
        )

    @cached_property
    def optimum(self) -> Solution:
        """The point with the largest mean of gains; with one task it is known by construction."""
        if len(self.tasks) > 1:
            return super().optimum
        return Solution(self._known, self.gains(self._known))

    def _halves(self) -> list[tuple[Vector, float]]:
        """Return the tasks' best weights and drop rates as rows, each with the bound of its unit coordinates."""
        tasks = len(self.best_weights)
        halves = [(self.best_weights.reshape(tasks, -1), WEIGHT), (self.best_drop_rates.reshape(tasks, -1), DROP_RATE)]
        return halves[: 1 + self._drop_rates]

    def _uniform(self, *weights: float) -> Vector:
        """Return the point with one weight for each expert, or one for all, and no drop rates."""
        experts, groups = self._shape
        row = np.repeat(np.broadcast_to(np.array(weights) / WEIGHT, experts), groups)
        return np.concatenate([row, np.zeros(experts * groups * self._drop_rates)])

    def _split(self, points: ArrayLike) -> tuple[Vector, Vector]:
        """Return weights and drop rates of points, each of shape (n, experts, groups)."""
        data = np.asarray(points, dtype=np.float64)
        n, count = len(data), self._shape[0] * self._shape[1]
        weights = WEIGHT * data[:, :count].reshape(n, *self._shape)
        drops = DROP_RATE * data[:, count:].reshape(n, *self._shape) if self._drop_rates else np.zeros_like(weights)
        return weights, drops

    def _size(self, weights: Vector, drops: Vector) -> Vector:
        """Return how much is added to the base, for each task's important groups: shape (n, tasks)."""
        moment = (weights**2 / (1.0 - drops)).sum(axis=1) + 0.7 * weights.sum(axis=1) ** 2
        return np.asarray(moment @ self.importance.T / self._shape[0])

    def _ability(self, weights: Vector, drops: Vector) -> Vector:
        """Return log-odds, shape (n, tasks)."""
        found = np.empty((len(weights), len(self._tops)))
        beyond = np.maximum(self._size(weights, drops) / self._edge - 1.0, 0.0)
        for t, top in enumerate(self._tops):
            off, share = weights - self.best_weights[t], self.importance[t]
            dropped = self._pulls[t, :, None] * (drops - self.best_drop_rates[t]) ** 2 * self._drop_rates
            pulled = self._pulls[t, :, None] * off**2
            summed = (self._sums[t, :, None] * off).sum(axis=1) ** 2
            distance = ((pulled + DROPPING * dropped).sum(axis=1) + summed) @ share
            first, second = self._pairs.T
            scaled = (np.sqrt(share) * off).reshape(len(off), -1)
            distance += PAIRING * ((scaled[:, first] + self._signs * scaled[:, second]) ** 2).sum(axis=1)
            found[:, t] = top - FALL * (np.sqrt(1.0 + 2.0 * distance) - 1.0) - CLIFF * beyond[:, t] ** 2
        return found
