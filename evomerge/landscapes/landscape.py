"""What every landscape is: a test problem with the noiseless truth beside the noisy scores.

A landscape gives dimensions for an optimizer, the true mean scores of any point of the unit cube, its baselines, its
true optimum and front, and samples: the items of one search, on which candidates are scored. This file knows nothing
about the shapes of landscapes, nor about optimizers beyond the objectives and results that they take.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from evomerge.landscapes.items import Thresholds, Vector
from evomerge.landscapes.solve import Front, Solution, best, pareto
from evomerge.optimizers import Objective, Result
from evomerge.recipes import Dimension
from evomerge.reporting.front import hypervolume
from evomerge.reporting.statistics import mean_with_error


class Sample:
    """The items of one search: they are drawn once, and every candidate is scored on the same ones.

    Args:
        tasks: their names.
        chances: vector -> for each task the probabilities of solving its items, one number or one an item.
        thresholds: for each task.
        base, experts: points of the baselines that give the normalised scale.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        chances: Callable[[Vector], Sequence[Vector | float]],
        thresholds: Sequence[Thresholds],
        *,
        base: Sequence[float],
        experts: Sequence[Sequence[float]],
    ) -> None:
        self._chances, self._thresholds = chances, thresholds
        low = [float(scores.mean()) for scores in self.outcomes(base)]
        high = np.max([[scores.mean() for scores in self.outcomes(expert)] for expert in experts], axis=0)
        #: With the scores of base and best expert on these items as anchors.
        self.objectives = tuple(Objective(*anchored) for anchored in zip(tasks, low, high.tolist(), strict=True))

    def outcomes(self, vector: Sequence[float]) -> tuple[Vector, ...]:
        """Return for each task the scores of all its items, 0.0 or 1.0, in the order of their places."""
        point = np.asarray(vector, dtype=np.float64)
        chances = self._chances(point)
        return tuple(items.solved(point, chance) for items, chance in zip(self._thresholds, chances, strict=True))

    def result(
        self, vector: Sequence[float], places: Sequence[Sequence[int]] | None = None, *, by_item: bool = False
    ) -> Result:
        """Return what scoring a candidate gives.

        Args:
            vector: where it lies.
            places: for each task the items to score, at least one; None: all.
            by_item: put the scores of the single items into the result.
        """
        outcomes = self.outcomes(vector)
        chosen = [range(len(scores)) for scores in outcomes] if places is None else places
        scored = [scores[list(own)] for scores, own in zip(outcomes, chosen, strict=True)]
        means, errors = zip(*map(mean_with_error, scored), strict=True)
        items = (
            tuple(dict(zip(own, scores.tolist(), strict=True)) for own, scores in zip(chosen, scored, strict=True))
            if by_item
            else ()
        )
        return Result(means, errors, tuple(map(len, scored)), by_item=items)


class Landscape(ABC):
    """A test problem.

    Gains are true mean scores on the normalised scale: 0 is the base, 1 the best expert on this task. What is to be
    made large is the gains as a front, or their mean.

    Args:
        name: unique and short.
        dimensions: the coordinates.
        tasks: names of the objectives.
        baselines: name -> point, in the order in which they would be scored; `base` is one of them, and so are the
            `experts`.
        experts: names of the baselines that are single experts.
    """

    def __init__(
        self,
        name: str,
        dimensions: Sequence[Dimension],
        tasks: Sequence[str],
        baselines: Mapping[str, Sequence[float]],
        experts: Sequence[str],
    ) -> None:
        self.name, self.dimensions, self.tasks = name, tuple(dimensions), tuple(tasks)
        self.baselines = {title: tuple(map(float, point)) for title, point in baselines.items()}
        self.experts = tuple(experts)

    @abstractmethod
    def means(self, points: ArrayLike) -> Vector:
        """Return the true mean scores of points of shape (n, dimensions), shape (n, tasks)."""

    @abstractmethod
    def sample(self, items: int, seed: int) -> Sample:
        """Draw `items` items of each task: other ones for another seed, the same ones for the same seed."""

    def gains(self, points: ArrayLike) -> Vector:
        """Return the true mean scores of points of shape (n, dimensions), normalised, shape (n, tasks)."""
        low, high = self._anchors
        return (self.means(points) - low) / (high - low)

    @cached_property
    def front(self) -> Front:
        """The true front above the base: points, and their gains, no one dominated by another, and its volume."""
        return pareto(self.gains, len(self.dimensions), len(self.tasks), starts=list(self.baselines.values()))

    @cached_property
    def optimum(self) -> Solution:
        """The point with the largest mean of gains: one point, shape (1, dimensions), and its gains."""
        starts = [*self.baselines.values()]
        if len(self.tasks) > 1:
            starts += self.front.points.tolist()
        return best(self.gains, len(self.dimensions), starts=starts)

    def regret(self, point: Sequence[float]) -> float:
        """Return how far the mean of a point's gains stays below the optimum's, as a share: 0 there, 1 at the base."""
        return 1.0 - float(self.gains([point]).mean() / self.optimum.gains.mean())

    def volume(self, points: ArrayLike) -> float:
        """Return the hypervolume of the true gains of points, above the base, as a share of the true front's."""
        return hypervolume(self.gains(points), np.zeros(len(self.tasks))) / self.front.volume

    @cached_property
    def _anchors(self) -> tuple[Vector, Vector]:
        low = self.means([self.baselines["base"]])[0]
        high = self.means([self.baselines[expert] for expert in self.experts]).max(axis=0)
        return low, high
