"""The true optimum and front of a smooth function on the unit cube, by refining the best of many points.

Exact up to rounding wherever every objective is a rising function of a concave one (then no local optimum but the
global one exists); elsewhere as good as the points that it starts from. This file knows nothing about landscapes.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize
from scipy.stats import qmc

from evomerge.landscapes.items import Vector
from evomerge.reporting.front import non_dominated

Gains = Callable[[ArrayLike], Vector]
Climb = Callable[[Gains, Vector, Vector], Vector]

STEP = 1e-6
#: Directions in which the front is sought, by the number of objectives (besides those to its ends).
DIRECTIONS = {2: 64, 3: 128, 4: 256}
#: Points of a Sobol sequence among which the search for a start begins.
POOL = 2**12
#: Share of the other objectives in a direction to an end of the front; weight of the sum of gains.
INSIDE, SUM = 0.01, 1e-4


@dataclass(frozen=True)
class Solution:
    """Points of shape (n, dimensions) and their gains, shape (n, tasks)."""

    points: Vector
    gains: Vector


@dataclass(frozen=True)
class Front(Solution):
    """A front of which the points are a selection; `volume` is the hypervolume above zero of the whole front."""

    volume: float


def pareto(gains: Gains, dimensions: int, tasks: int, *, starts: ArrayLike, climb: Climb | None = None) -> Front:
    """Return the front above zero: for each of many directions the point that goes farthest along it.

    For a direction d (shares of the objectives, adding up to 1) that is the largest v with gains >= v d in all
    objectives, found by sequential quadratic programming; of equal ones that with the largest gains in sum (augmented
    Chebyshev scalarization, Steuer and Choo 1983). The volume below the front is an integral over directions,
    E[v(d)^m] / m! for m objectives and d uniform on the simplex (Deng and Zhang 2019), so its error is that of v at
    some hundred directions, and far less than what is missing between as many points.

    Args:
        gains: points (n, dimensions) -> (n, tasks).
        dimensions, tasks: their numbers; at most four tasks.
        starts: points to begin with, besides a Sobol sequence.
        climb: (gains, start, direction) -> a point at least as far along; None: as above.
    """
    if tasks == 1:
        top = best(gains, dimensions, starts=starts)
        return Front(top.points, top.gains, float(top.gains[0, 0]))
    cuts = np.sort(qmc.Sobol(tasks - 1, rng=np.random.default_rng(0)).random(DIRECTIONS[tasks]), axis=1)
    uniform = np.diff(cuts, axis=1, prepend=0.0, append=1.0) + 1e-9
    directions = np.vstack([np.full((tasks, tasks), INSIDE) + np.eye(tasks) * (1 - tasks * INSIDE), uniform])
    points = np.vstack([np.asarray(starts), qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(POOL)])
    values = gains(points)
    for direction in directions:
        start = points[_reach(values, direction).argmax()]
        found = (climb or _farthest)(gains, start, direction)
        points, values = np.vstack([points, found]), np.vstack([values, gains([found])])
    solved = np.arange(len(points) - len(directions), len(points))
    solved = solved[(values[solved] >= 0).all(axis=1)]
    kept = solved[undominated(values[solved])]
    reached = [max(float((values / direction).min(axis=1).max()), 0.0) for direction in uniform]
    volume = float(np.mean(np.power(reached, tasks))) / math.factorial(tasks)
    return Front(points[kept], values[kept], volume)


def best(gains: Gains, dimensions: int, *, starts: ArrayLike, polished: int = 8) -> Solution:
    """Return the point with the largest mean of gains: the best few of many points are climbed from (L-BFGS-B)."""
    points = np.vstack([np.asarray(starts), qmc.Sobol(dimensions, rng=np.random.default_rng(0)).random(POOL)])
    order = np.argsort(-gains(points).mean(axis=1), kind="stable")[:polished]

    def cost(x: Vector) -> tuple[float, Vector]:
        values, slopes = _with_slopes(gains, x)
        return -float(values.mean()), -slopes.mean(axis=0)

    bounds = [(0.0, 1.0)] * dimensions
    options = {"maxiter": 2000, "ftol": 1e-13, "gtol": 1e-9}
    tops = [minimize(cost, points[i], jac=True, method="L-BFGS-B", bounds=bounds, options=options).x for i in order]
    candidates = np.clip(np.vstack([points[order], tops]), 0.0, 1.0)
    values = gains(candidates)
    top = int(values.mean(axis=1).argmax())
    return Solution(candidates[top : top + 1], values[top : top + 1])


def climb_by_steps(step: float) -> Climb:
    """Return a climb for functions with kinks in few dimensions: to the best neighbour, in steps halved five times."""

    def climb(gains: Gains, start: Vector, direction: Vector) -> Vector:
        around = np.array(list(itertools.product((0.0, -1.0, 1.0), repeat=len(start))))  # the place itself first
        x = start
        for size in step / 2.0 ** np.arange(6):
            for _ in range(10):
                neighbours = np.clip(x + size * around, 0.0, 1.0)
                best = int(_reach(gains(neighbours), direction).argmax())
                x = neighbours[best]
                if best == 0:
                    break
        return np.asarray(x)

    return climb


def undominated(values: Vector, block: int = 400) -> NDArray[np.intp]:
    """Return the indices of the points that no other dominates, of shape (n, tasks); quick for many points."""
    kept = np.argsort(-values.sum(axis=1), kind="stable")
    while len(kept):
        before = len(kept)
        parts = [kept[i : i + block] for i in range(0, before, block)]
        kept = np.concatenate([part[non_dominated(values[part])] for part in parts])
        # The best block weeds out most of the rest.
        strong = values[kept[:block]]
        beaten = [((strong >= value).all(axis=1) & (strong > value).any(axis=1)).any() for value in values[kept]]
        kept = kept[~np.array(beaten)]
        if len(kept) <= block or len(kept) > 0.9 * before:
            return np.sort(kept[non_dominated(values[kept])])
    return kept


def _reach(values: Vector, direction: Vector) -> Vector:
    """Return how far points go along a direction, and a little for their sum."""
    return np.asarray((values / direction).min(axis=1) + SUM * values.sum(axis=1))


def _farthest(gains: Gains, start: Vector, direction: Vector) -> Vector:
    """Maximise v + SUM * sum of gains(x) over (x, v), with gains(x) >= v * direction, from `start`."""
    n = len(start)
    last: dict[bytes, tuple[Vector, Vector]] = {}

    def at(z: Vector) -> tuple[Vector, Vector]:
        key = z[:n].tobytes()
        if key not in last:
            last.clear()
            last[key] = _with_slopes(gains, z[:n])
        return last[key]

    constraint = {
        "type": "ineq",
        "fun": lambda z: at(z)[0] - z[n] * direction,
        "jac": lambda z: np.hstack([at(z)[1], -direction[:, None]]),
    }
    first = gains([start])
    found = minimize(
        lambda z: -z[n] - SUM * at(z)[0].sum(),
        np.append(start, (first[0] / direction).min()),
        jac=lambda z: np.append(-SUM * at(z)[1].sum(axis=0), -1.0),
        bounds=[(0.0, 1.0)] * n + [(None, None)],
        constraints=[constraint],
        method="SLSQP",
        options={"maxiter": 300, "ftol": 1e-9},
    )
    x = np.clip(found.x[:n], 0.0, 1.0)
    better = _reach(gains([x]), direction)[0] >= _reach(first, direction)[0]  # false for NaN
    return x if better else start


def _with_slopes(gains: Gains, x: Vector) -> tuple[Vector, Vector]:
    """Return the gains at x, shape (tasks,), and their slopes by differences inside the cube, shape (tasks, n)."""
    x = np.clip(x, 0.0, 1.0)
    steps = np.where(x > 0.5, -STEP, STEP)
    values = gains(np.vstack([x, x + np.diag(steps)]))
    return values[0], ((values[1:] - values[0]) / steps[:, None]).T
