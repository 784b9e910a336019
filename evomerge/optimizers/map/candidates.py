"""Where good points may lie: NSGA-III on the surrogates, or the peak of a single one, inside the box that was sampled.

Points are only taken from where a surrogate's own error is no larger than at some point that was scored, so that
nothing is extrapolated. This file knows nothing about how surrogates are fitted.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import comb
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from evomerge.optimizers.base import Objective
from evomerge.optimizers.map.goals import normalised, shortfalls
from evomerge.optimizers.map.surrogate import Surrogate
from evomerge.recipes import Dimension

Array = npt.NDArray[np.float64]

#: Points of a generation of NSGA-III, at most.
POPULATION = 100
#: Starts from which the peak of a single quadratic is climbed.
CLIMBS = 8


class Landscape(Protocol):
    """What is searched; `Surrogates` is one."""

    dimensions: tuple[Dimension, ...]
    objectives: tuple[Objective, ...]
    points: Array
    models: tuple[Surrogate, ...]

    def bounds(self, vectors: Array, width: float) -> Array:
        """Return the predicted scores plus `width` standard errors, (n, m), at points (n, d)."""

    def strain(self, vectors: Array) -> Array:
        """Return how far beyond the scored points a surrogate would reach, (n,); up to 1 is inside."""

    def box(self) -> tuple[Array, Array]:
        """Return the corners of the sampled box, each (d,)."""


def pareto(values: Array) -> npt.NDArray[np.int64]:
    """Return the places of the rows (n, m) that no other row dominates, larger being better."""
    one, other = values[:, None, :], values[None, :, :]
    better = (one >= other).all(axis=2) & (one > other).any(axis=2)
    return np.flatnonzero(~better.any(axis=0))


def predicted_front(
    landscape: Landscape,
    *,
    weights: Sequence[float],
    seed: int,
    generations: int,
    width: float = 0.0,
    starts: Array | None = None,
) -> Array:
    """Return the last population of NSGA-III (Deb and Jain 2014), (n, d); all of it lies inside the trusted region.

    Args:
        landscape: what is searched.
        weights: one an objective; those of weight 0 are left out.
        seed: of the search.
        generations: how many.
        width: the predicted scores plus so many standard errors are searched.
        starts: points of the first population besides the best scored ones.
    """
    from pymoo.algorithms.moo.nsga3 import NSGA3
    from pymoo.optimize import minimize as evolve

    kept = np.flatnonzero(np.array(weights) > 0)
    lower, upper = landscape.box()
    directions = _directions(len(kept))
    rng = np.random.default_rng(seed)

    def scores(x: Array) -> Array:
        return normalised(landscape.objectives, landscape.bounds(x, width))[:, kept]

    def limits(x: Array) -> Array:
        short = shortfalls(landscape.objectives, landscape.bounds(x, width))
        return np.stack([landscape.strain(x) - 1.0, short], axis=1)

    if len(kept) == 1:
        order = _ranks(scores(landscape.points), limits(landscape.points))
        known = landscape.points[order[: CLIMBS // 2]]
        others = lower + (upper - lower) * rng.random((CLIMBS - len(known), len(lower)))
        return inside(landscape, peaks(landscape, int(kept[0]), np.vstack([known, others])))
    known = landscape.points[_ranks(scores(landscape.points), limits(landscape.points))]
    size = max(len(directions), 20)
    ends = inside(landscape, np.vstack([peaks(landscape, int(j), known[:2]) for j in kept]))
    first = [ends, known[: size // 3]] + ([] if starts is None else [starts[: size // 2]])
    count = sum(map(len, first))
    first.append(lower + (upper - lower) * rng.random((max(size - count, 0), len(lower))))
    problem = _problem(lambda x: (-scores(x), limits(x)), lower, upper, len(kept))
    with np.errstate(all="ignore"):
        algorithm = NSGA3(directions, pop_size=size, sampling=np.clip(np.vstack(first), lower, upper))
        found = evolve(problem, algorithm, ("n_gen", generations), seed=seed % 2**32, verbose=False)
    population = np.clip(np.atleast_2d(found.pop.get("X")).astype(float), lower, upper)
    return inside(landscape, np.vstack([population, ends]))


def peaks(landscape: Landscape, objective: int, starts: Array) -> Array:
    """Return the tops of one objective's quadratic in the sampled box, (n, d), that climbs from the starts lead to.

    Every second climb takes the choices that the quadratic likes best, the others keep those of their starts.
    """
    slope, curve = landscape.models[objective].quadratic()
    lower, upper = landscape.box()
    numbers, columns, column = [], [], 0
    starts = starts.copy()
    for place, dimension in enumerate(landscape.dimensions):
        k = len(dimension.choices)
        if k:
            starts[::2, place] = (int(np.argmax(slope[column : column + k])) + 0.5) / k
        else:
            numbers.append(place)
            columns.append(column)
        column += max(k, 1)
    if not numbers:
        return starts
    slope, curve = slope[columns], curve[np.ix_(columns, columns)]
    unit = np.maximum(np.abs(slope).max(), np.abs(curve).max()) or 1.0
    bounds = list(zip(lower[numbers], upper[numbers], strict=True))

    def depth(u: Array) -> tuple[float, Array]:
        x = 2.0 * u - 1.0
        bend = curve @ x
        return -float(slope @ x + x @ bend) / unit, -2.0 * (slope + 2.0 * bend) / unit

    for start in starts:  # products with choices there are none: each climb is in the numbers alone
        found = minimize(depth, start[numbers], jac=True, bounds=bounds, method="L-BFGS-B")
        start[numbers] = np.clip(found.x, lower[numbers], upper[numbers])
    return starts


def inside(landscape: Landscape, points: Array) -> Array:
    """Pull points (n, d) towards their nearest scored ones until no surrogate is extrapolated."""
    gaps = np.linalg.norm(points[:, None] - landscape.points, axis=2)
    anchors = landscape.points[np.argmin(gaps, axis=1)]
    share = np.where(landscape.strain(points) <= 1.0, 1.0, 0.0)
    step = np.where(share < 1.0, 0.5, 0.0)
    for _ in range(12):
        tried = share + step
        good = landscape.strain(anchors + tried[:, None] * (points - anchors)) <= 1.0
        share, step = np.where(good, tried, share), step / 2
    return np.asarray(anchors + share[:, None] * (points - anchors))


def _ranks(scores: Array, limits: Array) -> npt.NDArray[np.int64]:
    """Return places, those on the front first, then by the sum of scores; what breaks a limit comes last."""
    broken = (limits > 1e-6).any(axis=1)
    on_front = np.zeros(len(scores), dtype=bool)
    on_front[pareto(scores)] = True
    return np.lexsort([-scores.sum(axis=1), ~on_front, broken])


@lru_cache(maxsize=8)
def _directions(m: int) -> Array:
    """Return the reference directions of Das and Dennis, as many as `POPULATION` allows."""
    from pymoo.util.ref_dirs import get_reference_directions

    if m == 1:
        return np.ones((1, 1))
    parts = 1
    while comb(m + parts, parts + 1) <= POPULATION and not (m == 2 and parts >= 49):
        parts += 1
    return np.asarray(get_reference_directions("das-dennis", m, n_partitions=parts))


def _problem(evaluate: Callable[[Array], tuple[Array, Array]], lower: Array, upper: Array, objectives: int) -> Any:
    from pymoo.core.problem import Problem

    class Surface(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            # pymoo takes no box of width 0
            super().__init__(
                n_var=len(lower), n_obj=objectives, n_ieq_constr=2, xl=lower, xu=np.maximum(upper, lower + 1e-9)
            )

        def _evaluate(self, x: Array, out: dict[str, Array], *args: Any, **kwargs: Any) -> None:
            out["F"], out["G"] = evaluate(x)

    return Surface()
