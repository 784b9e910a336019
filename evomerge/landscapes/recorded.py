"""Landscapes recorded from real merges (`scripts/record_landscape.py`), between whose points a model fills in.

Items of a search are drawn, with replacement, from the recorded ones; true means are over all recorded items. The file
is read without pickle. This file knows nothing about how it was recorded.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from evomerge.errors import UsageError
from evomerge.landscapes.items import Thresholds, Traits, Vector
from evomerge.landscapes.landscape import Landscape, Sample
from evomerge.landscapes.response import Process, fit_items, fit_process, log_odds
from evomerge.landscapes.solve import Front, Solution, climb_by_steps, pareto
from evomerge.recipes import Dimension

#: Upper bounds of what was recorded.
BOUNDS = {"weight": 1.5, "drop_rate": 0.9}
#: Uniform weights among the baselines.
GRID = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
#: Into so many parts each cell of the grid is cut to find its front.
CUTS = 4
FOLDS = 10


@dataclass(frozen=True)
class Fit:
    """How well the response of one task predicts points that it was not fitted to (ten-fold cross-validation).

    Attributes:
        task: its name.
        error: root mean square error of the mean score.
        spread: standard deviation of the recorded mean scores, so 1 - (error / spread)^2 is explained.
        item_loss: mean log loss of single outcomes, in bits.
        item_spread: that of each item's own mean as the prediction.
    """

    task: str
    error: float
    spread: float
    item_loss: float
    item_spread: float


class _Recorded(Landscape):
    """What both have: the recording, the dimensions, the baselines."""

    def __init__(self, name: str, path: Path, *, coarse: bool) -> None:
        with np.load(path, allow_pickle=False) as file:
            data: dict[str, Any] = dict(file)
        try:
            tasks = [str(task) for task in data["tasks"]]
            titles = [str(dimension) for dimension in data["dimensions"]]
            counts = dict(zip(tasks, data["items"].tolist(), strict=True))
            #: For each task the outcomes at the points of each part, shape (points, items).
            self._outcomes = {
                part: [
                    np.unpackbits(data[f"{part}_{task}"], axis=1, count=counts[task]).astype(np.float64)
                    for task in tasks
                ]
                for part in ("baselines", "grid", "layered")
            }
            self._points = {part: data[part].astype(np.float64) for part in ("grid", "layered")}
            self._recorded_baselines = [str(title) for title in data["baselines"]]
        except KeyError as error:
            raise UsageError(f"{path}: no recording of a landscape: {error.args[0]}") from error
        experts = list(dict.fromkeys(title.split(".")[1] for title in titles))
        dimensions = [
            Dimension(title, parameter, expert, group, 0.0, BOUNDS[parameter])
            for title in ([f"weight.{expert}.all" for expert in experts] if coarse else titles)
            for parameter, expert, group in [title.split(".", 2)]
        ]

        def uniform(weights: dict[str, float]) -> list[float]:
            return [weights[str(d.expert)] / d.high if d.parameter == "weight" else 0.0 for d in dimensions]

        points = {"base": uniform(dict.fromkeys(experts, 0.0))}
        points |= {label: uniform({other: float(other == label) for other in experts}) for label in experts}
        points["average"] = uniform(dict.fromkeys(experts, 1.0 / len(experts)))
        points |= {f"arithmetic {weight:g}": uniform(dict.fromkeys(experts, weight)) for weight in GRID}
        super().__init__(name, dimensions, tasks, points, experts)

    def _draw(self, items: int, seed: int) -> list[NDArray[np.int64]]:
        """Return for each task the places of `items` recorded items, drawn with replacement."""
        rng = np.random.default_rng([seed, 7])
        return [rng.integers(0, outcomes.shape[1], items) for outcomes in self._outcomes["grid"]]


class GridLandscape(_Recorded):
    """The recorded grid over one weight an expert: exact at its points.

    Between them the probability of solving an item is the multilinear interpolation of its recorded outcomes (0 or 1)
    at the corners of the cell; an item's threshold is the same for all candidates. The bumps of the recorded scores,
    which some hundred items leave in them, belong to this landscape's truth.
    """

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(name, path, coarse=True)
        grid = self._points["grid"]
        self._levels = [np.unique(axis) for axis in grid.T]
        shape = tuple(map(len, self._levels))
        order = np.lexsort(grid.T[::-1])
        if len(grid) != np.prod(shape):
            raise UsageError(f"{path}: the grid's {len(grid)} points are no full grid")
        self._tables = [outcomes[order].reshape(*shape, -1) for outcomes in self._outcomes["grid"]]
        self._mean_table = np.stack([table.mean(axis=-1) for table in self._tables], axis=-1)

    def means(self, points: ArrayLike) -> Vector:
        """Return the true mean scores of points of shape (n, dimensions), shape (n, tasks)."""
        return self._interpolate(np.asarray(points, dtype=np.float64), self._mean_table)

    def sample(self, items: int, seed: int) -> Sample:
        """Draw `items` of the recorded items of each task, with replacement."""
        tables = [table[..., own] for table, own in zip(self._tables, self._draw(items, seed), strict=True)]
        frozen = Traits(difficulty=1.0, taste=0.0, chance=0.0)
        n = len(self.dimensions)
        return Sample(
            self.tasks,
            lambda vector: [self._interpolate(vector[None], table)[0] for table in tables],
            [Thresholds(items, n, seed=[seed, t], traits=frozen) for t in range(len(tables))],
            base=self.baselines["base"],
            experts=[self.baselines[expert] for expert in self.experts],
        )

    @cached_property
    def front(self) -> Front:
        """The front, sought from all points of a finer grid."""
        axes = [np.interp(np.arange((len(a) - 1) * CUTS + 1) / CUTS, np.arange(len(a)), a) for a in self._levels]
        finer = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
        return pareto(
            self.gains,
            len(self.dimensions),
            len(self.tasks),
            starts=finer,
            climb=climb_by_steps(0.5 / (len(axes[0]) - 1)),
        )

    @cached_property
    def optimum(self) -> Solution:
        """The best recorded point: a multilinear function is largest at a corner."""
        points = self._points["grid"]
        gains = self.gains(points)
        top = int(gains.mean(axis=1).argmax())
        return Solution(points[top : top + 1], gains[top : top + 1])

    def _interpolate(self, points: Vector, table: Vector) -> Vector:
        """Interpolate a table of shape (levels, levels, ..., k) at points of shape (n, dimensions), shape (n, k)."""
        found = np.broadcast_to(table, (len(points), *table.shape))
        for axis, levels in zip(points.T, self._levels, strict=True):
            right = np.clip(np.searchsorted(levels, axis, side="right"), 1, len(levels) - 1)
            share = np.clip((axis - levels[right - 1]) / (levels[right] - levels[right - 1]), 0.0, 1.0)
            rows = np.arange(len(points))
            share = share.reshape(-1, *[1] * (found.ndim - 2))
            found = (1 - share) * found[rows, right - 1] + share * found[rows, right]
        return np.asarray(found)


class FittedLandscape(_Recorded):
    """A response fitted to recorded points: over whole experts' weights, or over weights and drop rates by layers.

    The ability at each task is a Gaussian process fitted to all recorded points that lie in the space (the grid and the
    baselines; by layers the space-filling sample too); each recorded item answers to it in its own way (`response`).
    True means are those of the fit: the chance of some hundred recorded items is smoothed away, and so is what else the
    fit does not see. `cross_validated` says how much. On the zoo's recording by layers the errors are 0.033, 0.036 and
    0.049 (math, code, translate): 87, 94 and 95 % of the variance is explained.

    Args:
        name, path: of the landscape, and of the recording.
        coarse: over one weight an expert.
    """

    #: Difficulty is in the items' own answers.
    traits = Traits(difficulty=0.0, taste=0.98, chance=0.02)

    def __init__(self, name: str, path: Path, *, coarse: bool) -> None:
        super().__init__(name, path, coarse=coarse)
        self._sampled = len(self._points["grid" if coarse else "layered"])
        self._x, self._y = self._training(coarse)
        self._responses = [_fit(self._x, outcomes, self._sampled) for outcomes in self._y]

    def means(self, points: ArrayLike) -> Vector:
        """Return the true mean scores of points of shape (n, dimensions), shape (n, tasks)."""
        data = np.asarray(points, dtype=np.float64)
        return np.stack([response.chances(data).mean(axis=1) for response in self._responses], axis=1)

    def sample(self, items: int, seed: int) -> Sample:
        """Draw `items` of the recorded items of each task, with replacement."""
        own = list(zip(self._responses, self._draw(items, seed), strict=True))
        n = len(self.dimensions)
        return Sample(
            self.tasks,
            lambda vector: [response.chances(vector[None])[0, places] for response, places in own],
            [Thresholds(items, n, seed=[seed, t], traits=self.traits) for t in range(len(own))],
            base=self.baselines["base"],
            experts=[self.baselines[expert] for expert in self.experts],
        )

    def cross_validated(self) -> list[Fit]:
        """Return how well the response predicts sampled points that it was not fitted to; takes a minute."""
        n = self._sampled  # they come first
        fold = np.random.default_rng(0).permutation(n) % FOLDS
        found = []
        for task, outcomes in zip(self.tasks, self._y, strict=True):
            chances = np.empty((n, outcomes.shape[1]))
            for k in range(FOLDS):
                out = np.flatnonzero(fold == k)
                kept = np.delete(np.arange(len(outcomes)), out)
                response = _fit(self._x[kept], outcomes[kept], n - len(out))
                chances[out] = response.chances(self._x[out])
            truth = outcomes[:n]
            error = np.sqrt(((chances.mean(axis=1) - truth.mean(axis=1)) ** 2).mean())
            naive = np.broadcast_to((truth.sum(axis=0) + 0.5) / (n + 1), truth.shape)
            spread = truth.mean(axis=1).std()
            found.append(Fit(task, float(error), float(spread), _bits(chances, truth), _bits(naive, truth)))
        return found

    def _training(self, coarse: bool) -> tuple[Vector, list[Vector]]:
        """Return all recorded points of this space, the sample first, and for each task their outcomes."""
        experts = {expert: place for place, expert in enumerate(self.experts)}
        grid = self._points["grid"]
        embedded = np.stack(
            [
                grid[:, experts[str(d.expert)]] if d.parameter == "weight" else np.zeros(len(grid))
                for d in self.dimensions
            ],
            axis=1,
        )
        known = [place for place, title in enumerate(self._recorded_baselines) if title in self.baselines]
        starts = np.array([self.baselines[self._recorded_baselines[place]] for place in known])
        parts = ["grid"] if coarse else ["layered", "grid"]
        x = np.vstack([*([] if coarse else [self._points["layered"]]), embedded, starts.reshape(-1, embedded.shape[1])])
        tasks = zip(*(self._outcomes[part] for part in parts), self._outcomes["baselines"], strict=True)
        return x, [np.vstack([*recorded, base[known]]) for *recorded, base in tasks]


@dataclass(frozen=True)
class _Response:
    """The fitted ability at a task, and the answers of its items to it."""

    ability: Process
    slopes: Vector
    offsets: Vector

    def chances(self, points: Vector) -> Vector:
        """Return the probabilities that items are solved at points of shape (n, d), shape (n, items)."""
        return np.asarray(expit(self.ability(points)[:, None] * self.slopes + self.offsets))


def _fit(points: Vector, outcomes: Vector, sampled: int) -> _Response:
    """Fit the ability to all points, and the items to the first `sampled` ones, which are spread over the space."""
    ability = fit_process(points, log_odds(outcomes))
    return _Response(ability, *fit_items(ability(points[:sampled]), outcomes[:sampled]))


def _bits(chances: Vector, outcomes: Vector) -> float:
    """Return the mean log loss of predicted outcomes."""
    return float(-np.log2(np.where(outcomes > 0.5, chances, 1 - chances)).mean())
