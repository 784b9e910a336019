"""Length scales of a Gaussian process in many dimensions: how far a coordinate must move until the score forgets.

The Matern-5/2 kernel with a length scale for each coordinate, its log posterior with the gradient, and the maximum of
it (MAP). The prior is that of Hvarfner et al. 2024 (arXiv 2402.02229): log-normal, growing with the square root of the
number of dimensions, so that a space of many coordinates is not taken to be rugged in all of them. It is shifted by
what is known beforehand: a coordinate that moves the model twice as far is expected to matter at half the step (the
idea of SIP-BMM, which takes SAAS's prior). Pure functions of arrays; this file knows nothing about optimizers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

Array = NDArray[np.float64]

SPREAD = math.sqrt(3.0)
#: A prior belief is no certainty: importances beyond these count as these.
IMPORTANCES = (0.1, 10.0)
#: Bounds of a length scale, in units of the cube's side.
SHORTEST, LONGEST = 0.03, 1000.0
#: Bounds of the process's variance, the scores' being 1.
VARIANCES = (0.01, 100.0)
STEPS = 60


@dataclass(frozen=True)
class Surface:
    """A fitted process: a length scale for each coordinate, variance and mean, for standardised scores."""

    lengths: Array
    variance: float
    mean: float


def prior_centres(importances: Sequence[float]) -> Array:
    """Return the prior mean of each coordinate's log length scale from `Dimension.importance`, shape (coordinates,)."""
    known = np.clip(np.asarray(importances, dtype=np.float64), *IMPORTANCES)
    return np.asarray(math.sqrt(2.0) + 0.5 * math.log(len(known)) - np.log(known))


def fit_surface(points: Array, owners: Sequence[int], values: Array, noise: Array, centres: Array) -> Surface:
    """Return the process of largest posterior density.

    Args:
        points: shape (n, features).
        owners: the coordinate that each feature belongs to: features of one coordinate share its length scale.
        values: standardised scores, shape (n,).
        noise: variance of each value, above 0, shape (n,).
        centres: from `prior_centres`, shape (coordinates,).
    """
    coordinates = len(centres)

    def loss(theta: Array) -> tuple[float, Array]:
        value, slope = log_posterior(theta, points, owners, values, noise, centres)
        return -value, -slope

    bounds = [(math.log(SHORTEST), math.log(LONGEST))] * coordinates + [tuple(map(math.log, VARIANCES))]
    # The posterior has several peaks: from the prior's mode, and from a surface that is nearly flat.
    starts = [np.append(np.clip(centres - shift, *bounds[0]), 0.0) for shift in (SPREAD**2, 0.0)]
    found = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": STEPS})
        for start in starts
    ]
    theta = np.asarray(min(found, key=lambda result: float(result.fun)).x)
    lengths, variance = np.exp(theta[:-1]), float(np.exp(theta[-1]))
    return Surface(lengths, variance, _solve(points, owners, values, noise, lengths, variance)[0])


def log_posterior(
    theta: Array, points: Array, owners: Sequence[int], values: Array, noise: Array, centres: Array
) -> tuple[float, Array]:
    """Return the log posterior density, up to a constant, and its gradient by `theta`.

    `theta` holds the logarithms of the length scales and of the variance. The constant mean is the most likely one.
    The prior's density is that of the length scales themselves, not of their logarithms (so its mode is far below
    `exp(centres)`); the logarithm of the variance is standard normal.
    """
    lengths, variance = np.exp(theta[:-1]), float(np.exp(theta[-1]))
    _, residual, factor, scaled, distance = _solve(points, owners, values, noise, lengths, variance)
    weights = cho_solve(factor, residual)
    value = -0.5 * residual @ weights - np.log(np.diag(factor[0])).sum()
    outer = np.outer(weights, weights) - cho_solve(factor, np.eye(len(values)))
    decay = np.exp(-math.sqrt(5.0) * distance)
    # d kernel / d log length = variance 5/3 (1 + sqrt 5 r) exp(-sqrt 5 r) (x - x')^2 / length^2
    inner = outer * (variance * 5.0 / 3.0) * (1.0 + math.sqrt(5.0) * distance) * decay
    by_feature = inner.sum(axis=1) @ scaled**2 - (scaled * (inner @ scaled)).sum(axis=0)
    slope = np.bincount(owners, weights=by_feature, minlength=len(centres))
    by_variance = 0.5 * float((outer * variance * _matern(distance)).sum())
    off = (theta[:-1] - centres) / SPREAD
    value += -0.5 * (off**2).sum() - theta[:-1].sum() - 0.5 * theta[-1] ** 2
    return float(value), np.append(slope - off / SPREAD - 1.0, by_variance - theta[-1])


def _matern(distance: Array) -> Array:
    root = math.sqrt(5.0) * distance
    return np.asarray((1.0 + root + root**2 / 3.0) * np.exp(-root))


def _solve(
    points: Array, owners: Sequence[int], values: Array, noise: Array, lengths: Array, variance: float
) -> tuple[float, Array, tuple[Array, bool], Array, Array]:
    """Return the mean, the values less the mean, the factor of the covariance, scaled points and their distances."""
    scaled = points / lengths[np.asarray(owners)]
    squares = (scaled**2).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares[None, :] - 2.0 * scaled @ scaled.T, 0.0))
    np.fill_diagonal(distance, 0.0)
    factor = cho_factor(variance * _matern(distance) + np.diag(noise), lower=True)
    ones = cho_solve(factor, np.ones(len(values)))
    mean = float(ones @ values / ones.sum())
    return mean, values - mean, factor, scaled, distance
