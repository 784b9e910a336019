"""Surrogates: what they recover, refuse and keep."""

import json

import numpy as np
import pytest
from scipy.stats import qmc

from evomerge.errors import UsageError
from evomerge.optimizers import Objective, Surrogates, fit_surrogates
from tests.optimizers.map.landscapes import HIGH, cliff, goals, logit_quadratic, starting_points, weights

MANY = 10**9  # items: no noise


def sample(n, d, seed=0):
    return qmc.Sobol(d, scramble=True, seed=np.random.default_rng(seed)).random(128)[:n]


def fitted(truth=None, n=40, items=MANY, seed=0, **options):
    truth = truth or logit_quadratic(seed)
    points = np.vstack([starting_points() / HIGH, sample(n - 5, 3, seed)])
    p = truth(HIGH * points)
    values = np.random.default_rng(seed).binomial(items, p) / items if items < MANY else p
    return fit_surrogates(weights(), goals(truth), points, values, np.full(p.shape, items), **options)


def test_a_known_quadratic_is_recovered_exactly():
    truth = logit_quadratic(3)
    surrogates = fitted(truth, n=16)
    at = sample(64, 3, 9)
    assert surrogates.trusted
    assert surrogates.predict(at)[0] == pytest.approx(truth(HIGH * at), abs=1e-4)
    assert all(d.r2 > 0.999 for d in surrogates.diagnostics.values())


@pytest.mark.parametrize("warps", ["softplus", "identity"])
def test_a_known_quadratic_of_losses_is_recovered_exactly(warps):
    def truth(u):
        bent = 1.0 + ((u - 0.3) ** 2 @ np.array([3.0, 2.0, 1.0])) + u[:, 0] * u[:, 2]
        return -(np.logaddexp(0.0, bent) if warps == "softplus" else bent)[:, None]

    points, at = sample(16, 3), sample(32, 3, 5)
    found = fit_surrogates(weights(), [Objective("loss")], points, truth(points), np.ones((16, 1)), warps=warps)
    assert found.predict(at)[0] == pytest.approx(truth(at), abs=1e-3)
    if warps == "softplus":
        auto = fit_surrogates(weights(), [Objective("loss")], points, truth(points), np.ones((16, 1)))
        assert auto.models[0].kind == "softplus"


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    inside = []
    for seed in range(8):
        surrogates = fitted(items=64, n=40, seed=seed)
        at = sample(64, 3, 99)
        truth = logit_quadratic(seed)(HIGH * at)
        _, low, high = surrogates.predict(at)
        inside.append((low <= truth) & (truth <= high))
    assert 0.85 < np.mean(inside) <= 1.0


def test_noise_only_is_refused():
    refused = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        n = 20 + 2 * seed
        values = rng.binomial(64, 0.5, (n, 1)) / 64
        found = fit_surrogates(weights(), [Objective("a")], rng.random((n, 3)), values, np.full((n, 1), 64))
        refused.append(not found.trusted)
    assert np.mean(refused) >= 0.9


def test_a_constant_objective_is_refused_and_predicted_as_it_is():
    points = sample(32, 3)
    values = np.stack([np.full(32, 0.5), 0.2 + 0.5 * points[:, 0]], axis=1)
    found = fit_surrogates(weights(), [Objective("flat"), Objective("a")], points, values, np.full((32, 2), 64))
    assert [d.trusted for d in found.diagnostics.values()] == [False, True]
    assert not found.trusted
    assert found.predict(points)[0][:, 0] == pytest.approx(np.full(32, 0.5), abs=1e-6)
    assert "flat" in found.describe()[0]
    assert "refused" in found.describe()[0]


def test_a_wild_landscape_is_refused():
    def truth(u):
        return (0.5 + 0.4 * np.sign(np.sin(40 * u).prod(axis=1)))[:, None]

    points = sample(64, 3)
    found = fit_surrogates(weights(), [Objective("a")], points, truth(points), np.full((64, 1), 64))
    assert not found.trusted


def test_points_with_larger_errors_bend_it_less():
    points = sample(32, 1)
    values = 0.5 + 0.2 * points
    shifts = []
    for error in (0.01, 0.05, 0.2):
        moved, errors = values.copy(), np.full((32, 1), 0.05)
        moved[:4] += 0.25
        errors[:4] = error
        found = fit_surrogates(weights(1), [Objective("a")], points, moved, np.full((32, 1), 64), errors=errors)
        shifts.append(np.abs(found.predict(points[:4])[0] - values[:4]).mean())
    assert shifts[0] > shifts[1] > shifts[2]


def test_json_there_and_back():
    found = fitted(cliff(1), items=64, n=50)
    data = json.loads(json.dumps(found.to_dict()))
    loaded = Surrogates.from_dict(data)
    at = sample(16, 3, 4)
    assert all(np.array_equal(a, b) for a, b in zip(loaded.predict(at), found.predict(at), strict=True))
    assert loaded.to_dict() == found.to_dict()
    assert loaded.diagnostics == found.diagnostics
    assert {"r2", "tau", "error", "trusted"} <= set(data["objectives"][0]["diagnostics"])


@pytest.mark.parametrize("data", [{}, {"version": 99}, {"version": 1}, {"version": 1, "dimensions": [{"name": 3}]}])
def test_other_data_are_refused(data):
    with pytest.raises(UsageError, match="surrogates"):
        Surrogates.from_dict(data)


def test_too_few_points_and_unknown_names_are_refused():
    with pytest.raises(UsageError, match="too few"):
        fit_surrogates(weights(), [Objective("a")], sample(2, 3), [[0.1], [0.2]], [[8], [8]])
    with pytest.raises(UsageError, match="did you mean 'diagonal'"):
        fitted(n=20, form="diagnal")
