"""Ridge regression against brute force."""

import numpy as np
import pytest

from evomerge.optimizers.map.ridge import fit


def problem(n=25, p=6, seed=0, noise=0.3):
    rng = np.random.default_rng(seed)
    terms = rng.standard_normal((n, p))
    slopes = rng.standard_normal(p)
    weights = rng.uniform(0.5, 4.0, n)
    return terms, 1.7 + terms @ slopes + noise * rng.standard_normal(n) / np.sqrt(weights), weights, slopes


def brute(terms, y, w, penalty, ridge):
    """The normal equations, constant unpenalised."""
    x = np.hstack([np.ones((len(y), 1)), terms])
    return np.linalg.solve(x.T @ (w[:, None] * x) + ridge * np.diag([0.0, *penalty]), x.T @ (w * y))


PENALTY = np.array([0.1, 0.1, 1.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize("ridge", [1e-3, 1.0, 30.0])
@pytest.mark.parametrize("n", [25, 5])
def test_it_solves_the_normal_equations(ridge, n):
    terms, y, w, _ = problem(n)
    solved = brute(terms, y, w, PENALTY, ridge)
    found = fit(terms, y, w, PENALTY, ridge)
    assert found.slopes == pytest.approx(solved[1:], rel=1e-6)
    assert found.mean(np.zeros((1, 6)))[0] == pytest.approx(solved[0], rel=1e-6)


@pytest.mark.parametrize("n", [25, 5])
def test_left_out_predictions_equal_those_of_refits(n):
    terms, y, w, _ = problem(n)
    found = fit(terms, y, w, PENALTY, 2.0)
    for i in range(n):
        rest = np.arange(n) != i
        solved = brute(terms[rest], y[rest], w[rest], PENALTY, 2.0)
        assert found.left_out[i] == pytest.approx(solved[0] + terms[i] @ solved[1:])


def test_the_ridge_is_the_minimum_of_generalised_cross_validation():
    terms, y, w, _ = problem(noise=2.0)
    w = w / w.mean()

    def gcv(ridge):
        found = fit(terms, y, w, PENALTY, ridge)
        residuals = y - found.mean(terms)
        return float(w @ residuals**2) / (len(y) - found.leverage.sum()) ** 2

    chosen = fit(terms, y, w, PENALTY).ridge
    assert all(gcv(chosen) <= gcv(chosen * factor) * (1 + 1e-9) for factor in (0.1, 0.5, 2.0, 10.0))


def test_without_noise_it_is_exact():
    terms, y, w, slopes = problem(noise=0.0)
    found = fit(terms, y, w, PENALTY)
    assert found.slopes == pytest.approx(slopes, abs=1e-5)
    assert found.left_out == pytest.approx(y, abs=1e-4)


def test_a_point_of_more_weight_is_met_more_closely():
    terms, y, w, _ = problem(n=8, noise=1.0)
    gaps = []
    for factor in (1.0, 10.0, 1000.0):
        heavy = w.copy()
        heavy[0] *= factor
        gaps.append(abs(fit(terms, y, heavy, PENALTY, 1.0).mean(terms[:1])[0] - y[0]))
    assert gaps[0] > gaps[1] > gaps[2]


def test_predicted_errors_are_those_of_simulations():
    errors, claimed = [], []
    for seed in range(200):
        terms, y, w, slopes = problem(n=60, seed=seed, noise=0.5)
        found = fit(terms, y, w, PENALTY)
        at = np.random.default_rng(seed + 999).standard_normal((20, 6))
        errors.append(found.mean(at) - 1.7 - at @ slopes)
        claimed.append(found.variance * found.reach(at))
    assert np.mean(np.square(errors)) == pytest.approx(np.mean(claimed), rel=0.2)


def test_reach_grows_in_directions_that_no_point_has_tried():
    terms = np.zeros((6, 2))
    terms[:, 0] = np.linspace(-1, 1, 6)
    found = fit(terms, terms[:, 0] + 0.1 * np.cos(9 * terms[:, 0]), np.ones(6), np.ones(2), 0.1)
    tried, untried = found.reach(np.array([[1.0, 0.0], [0.0, 1.0]]))
    assert untried > 10 * tried
