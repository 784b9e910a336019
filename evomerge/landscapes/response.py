"""A smooth response fitted to recorded scores, and the answers of single items to it.

Two steps. A Gaussian process with a length scale for each dimension (squared exponential, plus a linear part) is fitted
to the log-odds of the mean scores, its scales by marginal likelihood on a part of the points. Then each item gets two
numbers of its own, how steeply it answers to that ability and where it is solved half the time (the two-parameter
logistic model of item response theory). This file knows nothing about merging.
"""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, logit

from evomerge.landscapes.items import Vector

#: Points from which the scales are found; the fit itself uses all.
SCALING_POINTS = 320
#: Prior of log scales (mean, standard deviation): of lengths in units of the cube's side, and of items' numbers.
LENGTH_PRIOR = (np.log(2.0), 1.0)
ITEM_PRIOR = 0.7


@dataclass(frozen=True)
class Process:
    """A fitted Gaussian process: `points` of shape (n, d), its weights on them, and its scales."""

    points: Vector
    weights: Vector
    lengths: Vector
    smooth: float
    linear: float
    level: float

    def __call__(self, points: Vector) -> Vector:
        """Return the mean of the process at points of shape (k, d), shape (k,)."""
        curved, straight = _parts(points / self.lengths, self.points / self.lengths)
        return np.asarray(self.level + (self.smooth * curved + self.linear * straight) @ self.weights)


def fit_process(points: Vector, values: Vector, *, seed: int = 0) -> Process:
    """Fit values of shape (n,) at points of shape (n, d)."""
    level, n, d = float(values.mean()), len(points), points.shape[1]
    some = np.sort(np.random.default_rng(seed).permutation(n)[:SCALING_POINTS])
    start = np.concatenate([np.full(d, LENGTH_PRIOR[0]), np.log([0.5, 0.1, 0.05])])
    bounds = [(-2.0, 4.0)] * d + [(-8.0, 3.0)] * 3
    found = minimize(
        _cost,
        start,
        (points[some], values[some] - level),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": 80},
    )
    lengths, (smooth, linear, noise) = np.exp(found.x[:d]), np.exp(found.x[d:])
    curved, straight = _parts(points / lengths, points / lengths)
    covariance = smooth * curved + linear * straight + noise * np.eye(n)
    weights = cho_solve(cho_factor(covariance), values - level)
    return Process(points, weights, lengths, float(smooth), float(linear), level)


def fit_items(ability: Vector, outcomes: Vector) -> tuple[Vector, Vector]:
    """Fit P(solved) = logistic(slope * ability + offset) for each item, with normal priors around slope 1, offset 0.

    Args:
        ability: shape (n,).
        outcomes: 0 or 1, shape (n, items).

    Returns:
        The slopes and the offsets, each of shape (items,).
    """
    centre = ability.mean()
    x = np.stack([ability - centre, np.ones_like(ability)], axis=1)
    prior = np.array([1.0, centre])
    precision = np.array([1 / ITEM_PRIOR**2, 1 / 3.0**2])
    numbers = np.tile(prior, (outcomes.shape[1], 1))
    for _ in range(30):  # Newton's method, all items at once
        p = expit(numbers @ x.T)
        slope = (outcomes.T - p) @ x - precision * (numbers - prior)
        curvature = np.einsum("in,na,nb->iab", p * (1 - p), x, x) + np.diag(precision)
        numbers = numbers + np.clip(np.linalg.solve(curvature, slope[..., None])[..., 0], -1.0, 1.0)
    return numbers[:, 0], numbers[:, 1] - numbers[:, 0] * centre


def log_odds(outcomes: Vector) -> Vector:
    """Return the log-odds of the mean scores, shape (n,), of outcomes of shape (n, items); finite at 0 and 1 too."""
    items = outcomes.shape[1]
    return np.asarray(logit((outcomes.sum(axis=1) + 0.5) / (items + 1)))


def _parts(left: Vector, right: Vector) -> tuple[Vector, Vector]:
    """Return the squared-exponential and the linear kernel of points that are divided by their length scales."""
    inner = left @ right.T
    squares = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * inner
    return np.exp(-0.5 * np.maximum(squares, 0.0)), inner


def _cost(parameters: Vector, points: Vector, values: Vector) -> tuple[float, Vector]:
    """Return minus the log of likelihood times prior, and its slopes."""
    d, n = points.shape[1], len(points)
    lengths, (smooth, linear, noise) = np.exp(parameters[:d]), np.exp(parameters[d:])
    scaled = points / lengths
    curved, straight = _parts(scaled, scaled)
    factor = cholesky(smooth * curved + linear * straight + (noise + 1e-8) * np.eye(n), lower=True)
    inverse = solve_triangular(factor, np.eye(n), lower=True)
    inverse = inverse.T @ inverse
    weights = inverse @ values
    off = (parameters[:d] - LENGTH_PRIOR[0]) / LENGTH_PRIOR[1]
    cost = 0.5 * values @ weights + np.log(np.diag(factor)).sum() + 0.5 * off @ off
    pull = inverse - np.outer(weights, weights)  # slope of the cost is half the sum of pull * (slope of the covariance)
    bent = smooth * pull * curved
    rows = bent.sum(axis=1)
    # sum_ij bent_ij (x_i - x_j)^2 and sum_ij pull_ij x_i x_j, for each dimension
    apart = 2 * (rows @ scaled**2) - 2 * (scaled * (bent @ scaled)).sum(axis=0)
    along = -2 * linear * (scaled * (pull @ scaled)).sum(axis=0)
    slopes = 0.5 * np.concatenate(
        [apart + along, [bent.sum(), linear * (pull * straight).sum(), noise * np.trace(pull)]]
    )
    slopes[:d] += off / LENGTH_PRIOR[1]
    return float(cost), slopes
