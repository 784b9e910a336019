"""Length scales: the density is the textbook's, its gradient is right, and the fit finds what matters."""

import numpy as np
import pytest

from evomerge.optimizers.length_scales import SPREAD, fit_surface, log_posterior, prior_centres


def data(n, d, seed=0):
    """Scores that depend on the first two coordinates only, standardised, and the variance of their noise."""
    rng = np.random.default_rng(seed)
    points = rng.random((n, d))
    values = -3 * ((points[:, :2] - 0.4) ** 2).sum(axis=1) + 0.05 * rng.standard_normal(n)
    spread = values.std()
    return points, (values - values.mean()) / spread, np.full(n, (0.05 / spread) ** 2)


def test_the_density_by_hand():
    """Two points: the likelihood of a 2 x 2 Gaussian whose mean is the most likely one, times the priors."""
    points, values, noise = np.array([[0.1], [0.7]]), np.array([1.0, -0.5]), np.array([0.2, 0.3])
    centres, length, variance = prior_centres([1.0]), 0.8, 1.5
    root = np.sqrt(5) * 0.6 / length
    off = variance * (1 + root + root**2 / 3) * np.exp(-root)
    covariance = np.array([[variance + 0.2, off], [off, variance + 0.3]])
    inverse = np.linalg.inv(covariance)
    residual = values - inverse.sum(axis=0) @ values / inverse.sum()
    likelihood = -0.5 * residual @ inverse @ residual - 0.5 * np.log(np.linalg.det(covariance))
    prior = -0.5 * ((np.log(length) - centres[0]) / SPREAD) ** 2 - np.log(length) - 0.5 * np.log(variance) ** 2
    found, _ = log_posterior(np.log([length, variance]), points, [0], values, noise, centres)
    assert found == pytest.approx(likelihood + prior)


def test_the_gradient_is_that_of_the_density():
    points, values, noise = data(25, 4)
    points = np.column_stack([points, points[:, :1] > 0.5])  # two features of the last coordinate
    owners, centres = [0, 1, 2, 3, 3], prior_centres([1.0, 3.0, 0.5, 1.0])
    theta = np.append(centres - 2.0, 0.3)
    _, slope = log_posterior(theta, points, owners, values, noise, centres)
    for i in range(5):
        ends = [theta + sign * 1e-5 * np.eye(5)[i] for sign in (1, -1)]
        up, down = (log_posterior(end, points, owners, values, noise, centres)[0] for end in ends)
        assert slope[i] == pytest.approx((up - down) / 2e-5, rel=1e-5, abs=1e-6)


def test_the_fit_finds_the_coordinates_that_matter():
    points, values, noise = data(80, 15)
    lengths = fit_surface(points, range(15), values, noise, prior_centres([1.0] * 15)).lengths
    assert lengths[:2].max() < 0.3 * lengths[2:].min()


def test_without_evidence_length_scales_follow_the_importances():
    """Scores that are nothing but noise: the prior alone speaks, and twice the importance is half the length."""
    rng = np.random.default_rng(1)
    centres = prior_centres([2.0, 1.0, 0.5, 0.5])
    assert np.exp(centres[1] - centres[0]) == pytest.approx(2.0)
    lengths = fit_surface(rng.random((3, 4)), range(4), np.array([1.0, -1.0, 0.0]), np.full(3, 25.0), centres).lengths
    assert lengths[1] / lengths[0] == pytest.approx(2.0, rel=0.2)
    assert lengths[2] / lengths[0] == pytest.approx(4.0, rel=0.2)


def test_more_dimensions_have_longer_scales_and_no_importance_is_certain():
    assert np.exp(prior_centres([1.0] * 64)[0] - prior_centres([1.0])[0]) == pytest.approx(8.0)
    assert prior_centres([0.0, 1e9]) == pytest.approx(prior_centres([0.1, 10.0]))
