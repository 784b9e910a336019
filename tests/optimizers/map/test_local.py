"""The local correction: left-out errors against brute force, and only where it pays."""

import numpy as np
import pytest

from evomerge.optimizers.map import local


def bumpy(n=60, seed=0):
    rng = np.random.default_rng(seed)
    points, weights = rng.uniform(-1, 1, (n, 2)), rng.uniform(20, 60, n)
    return points, np.sin(4 * points[:, 0]) + rng.standard_normal(n) / np.sqrt(weights), weights


def test_left_out_errors_equal_those_of_refits():
    points, residuals, weights = bumpy(25)
    found = local.fit(points, residuals, weights)

    def covariance(a, b):
        return found.strength * np.exp(-((a[:, None] - b) ** 2).sum(axis=2) / (2 * found.length**2))

    for i in range(25):
        rest = np.arange(25) != i
        matrix = covariance(points[rest], points[rest]) + np.diag(1 / weights[rest])
        predicted = covariance(points[i : i + 1], points[rest]) @ np.linalg.solve(matrix, residuals[rest])
        assert found.left_out[i] == pytest.approx(residuals[i] - predicted[0], abs=1e-6)


def test_it_learns_bumps_and_says_where_it_does_not_know():
    points, residuals, weights = bumpy()
    found = local.fit(points, residuals, weights)
    at = np.random.default_rng(1).uniform(-0.8, 0.8, (200, 2))
    assert np.sqrt(np.mean((found.mean(at) - np.sin(4 * at[:, 0])) ** 2)) < 0.2
    near, far = found.spread(np.array([[0.0, 0.0], [9.0, 9.0]]))
    assert far > 5 * near


def test_noise_is_left_alone():
    kept = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        weights = rng.uniform(0.5, 2.0, 40)
        kept += local.fit(rng.uniform(-1, 1, (40, 3)), rng.standard_normal(40) / np.sqrt(weights), weights) is None
    assert kept >= 32


def test_equal_points_have_none():
    assert local.fit(np.zeros((5, 2)), np.arange(5.0), np.ones(5)) is None
