"""Bent scores and their weights."""

import numpy as np
import pytest

from evomerge.optimizers.map.warp import bend, choose, unbend

ONES = np.ones(3)


def test_the_warp_goes_by_the_scores():
    assert choose([0.0, 0.4, 1.0]) == "logit"
    assert choose([-3.0, -0.1]) == "softplus"
    assert choose([-0.1, 0.5]) == choose([0.5, 40.0]) == "identity"


@pytest.mark.parametrize("kind", ["softplus", "identity"])
def test_it_goes_there_and_back(kind):
    values = -np.array([0.01, 0.7, 30.0])
    assert unbend(kind, bend(kind, values, 0 * ONES, ONES)[0]) == pytest.approx(values, rel=1e-9)


def test_logit_goes_back_to_the_smoothed_share():
    values = np.array([0.0, 0.25, 1.0])
    bent, _ = bend("logit", values, 0 * ONES, 64 * ONES)
    assert unbend("logit", bent) == pytest.approx((64 * values + 0.5) / 65)


def test_logit_weights_are_n_p_q():
    values = np.array([0.0, 0.25, 0.5])
    p = (64 * values + 0.5) / 65
    _, weights = bend("logit", values, 0 * ONES, 64 * ONES)
    assert weights == pytest.approx(64 * p * (1 - p))
    _, same = bend("logit", values, np.sqrt(values * (1 - values) / 64), 64 * ONES)
    assert same == pytest.approx(weights)


@pytest.mark.parametrize(("kind", "sign"), [("logit", 1), ("softplus", -1), ("identity", -1)])
def test_a_larger_error_or_fewer_items_weigh_less(kind, sign):
    values = sign * np.full(3, 0.4)
    _, by_error = bend(kind, values, np.array([0.02, 0.05, 0.1]), 64 * ONES)
    assert (np.diff(by_error) < 0).all()
    _, by_items = bend(kind, values, 0 * ONES, np.array([200.0, 64.0, 8.0]))
    assert (np.diff(by_items) < 0).all()


def test_the_weight_of_a_bent_score_is_its_inverse_variance():
    rng = np.random.default_rng(0)
    for kind, values in (
        ("logit", rng.binomial(200, 0.3, 4000) / 200),
        ("softplus", -0.8 + 0.03 * rng.standard_normal(4000)),
    ):
        errors = np.sqrt(values * (1 - values) / 200) if kind == "logit" else np.full(4000, 0.03)
        bent, weights = bend(kind, values, errors, np.full(4000, 200.0))
        assert np.var(bent) * np.mean(weights) == pytest.approx(1.0, abs=0.1)
