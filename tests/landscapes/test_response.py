"""The fitted response: slopes of its cost, what it recovers."""

import numpy as np
import pytest
from scipy.optimize import check_grad
from scipy.special import expit

from evomerge.landscapes.response import _cost, fit_items, fit_process, log_odds

RNG = np.random.default_rng(0)


def test_the_slopes_of_the_cost_are_right():
    points, values = RNG.random((30, 4)), RNG.standard_normal(30)
    start = np.concatenate([[0.1, 0.7, -0.3, 1.5], np.log([0.5, 0.1, 0.05])])
    error = check_grad(lambda p: _cost(p, points, values)[0], lambda p: _cost(p, points, values)[1], start)
    assert error < 1e-4 * np.linalg.norm(_cost(start, points, values)[1])


def test_a_smooth_function_is_recovered_from_noisy_values():
    def truth(points):
        return 1 - 4 * (points[:, 0] - 0.4) ** 2 + 2 * points[:, 1] * points[:, 2]

    points = RNG.random((200, 6))
    process = fit_process(points, truth(points) + 0.1 * RNG.standard_normal(200))
    others = RNG.random((300, 6))
    assert np.sqrt(((process(others) - truth(others)) ** 2).mean()) < 0.08
    assert process.lengths[:3].max() < process.lengths[3:].min()  # the others do not matter


def test_items_are_recovered():
    ability = RNG.normal(0, 1.5, 800)
    slopes, offsets = RNG.uniform(0.5, 1.8, 40), RNG.normal(0, 1, 40)
    outcomes = (RNG.random((800, 40)) < expit(ability[:, None] * slopes + offsets)).astype(float)
    found_slopes, found_offsets = fit_items(ability, outcomes)
    assert found_slopes == pytest.approx(slopes, abs=0.5)
    assert found_offsets == pytest.approx(offsets, abs=0.5)


def test_items_that_are_always_or_never_solved_stay_finite():
    slopes, offsets = fit_items(RNG.normal(size=50), np.tile([0.0, 1.0], (50, 1)))
    assert np.isfinite(slopes).all()
    assert offsets[0] < -2
    assert offsets[1] > 2


def test_log_odds_are_finite():
    assert log_odds(np.array([[0.0, 0.0], [1.0, 1.0], [0.0, 1.0]])) == pytest.approx([-np.log(5), np.log(5), 0])
