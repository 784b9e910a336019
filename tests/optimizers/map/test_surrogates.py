"""Surrogates: what they recover, refuse and keep; fronts read from them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import qmc

from evomerge.errors import UsageError
from evomerge.optimizers import Objective, Surrogates, fit_surrogates
from evomerge.recipes import Dimension
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
    assert loaded.front(5) == found.front(5)
    assert {"r2", "tau", "error", "trusted"} <= set(data["objectives"][0]["diagnostics"])


@pytest.mark.parametrize("data", [{}, {"version": 99}, {"version": 1}, {"version": 1, "dimensions": [{"name": 3}]}])
def test_other_data_are_refused(data):
    with pytest.raises(UsageError, match="surrogates"):
        Surrogates.from_dict(data)


def test_the_front_of_known_surrogates_is_the_true_one():
    """Two tasks with round peaks: the front is the line between them."""
    peaks = np.array([[0.2, 0.2], [0.8, 0.6]])

    def truth(u):
        return np.stack([1 / (1 + np.exp(-1 + 6 * ((u - peak) ** 2).sum(axis=1))) for peak in peaks], axis=1)

    points = np.vstack([sample(30, 2), [[0, 0], [0, 1], [1, 0], [1, 1]]])
    tasks = [Objective("a", 0.1, 0.8), Objective("b", 0.1, 0.8)]
    found = fit_surrogates(weights(2), tasks, points, truth(points), np.full((34, 2), MANY))
    front = found.front(20)
    vectors = np.array([p.vector for p in front])
    along = (vectors - peaks[0]) @ (peaks[1] - peaks[0]) / ((peaks[1] - peaks[0]) ** 2).sum()
    away = np.linalg.norm(vectors - peaks[0] - along[:, None] * (peaks[1] - peaks[0]), axis=1)
    assert len(front) == 20
    assert away.max() < 0.06
    assert along.min() < 0.2
    assert along.max() > 0.8
    assert all(low <= value <= high for p in front for low, value, high in zip(p.low, p.values, p.high, strict=True))
    ends = [found.best({"a": 1.0}), found.best({"b": 2.0}), found.best({"a": 1, "b": 1})]
    for point, expected in zip(ends, [*peaks, peaks.mean(axis=0)], strict=True):
        assert point.vector == pytest.approx(expected, abs=0.02)


def test_floors_bind_the_best_and_the_front():
    found = fitted(logit_quadratic(0))
    free = found.best({"t0": 1.0})
    low = free.values[1]
    tasks = [found.objectives[0], replace(found.objectives[1], floor=low + 0.1), found.objectives[2]]
    points, values = found.points, found.values
    bound = fit_surrogates(weights(), tasks, points, values, np.full(values.shape, MANY))
    best = bound.best({"t0": 1.0})
    assert best.values[1] >= low + 0.099
    assert best.values[0] < free.values[0]
    assert all(point.values[1] >= low + 0.099 for point in bound.front(10))


def test_nothing_is_extrapolated():
    points = 0.3 + 0.3 * sample(30, 3)
    values = 0.2 + 0.2 * points  # rises towards the corner of the cube
    found = fit_surrogates(weights(), [Objective(f"t{j}") for j in range(3)], points, values, np.full((30, 3), 64))
    best, front = found.best(), found.front(10)
    for point in [best, *front]:
        assert np.all(np.array(point.vector) <= points.max(axis=0) + 1e-12)
        assert found.strain(np.array([point.vector]))[0] <= 1.0 + 1e-9


@pytest.mark.parametrize("preference", [{"x": 1.0}, {"t0": -1.0}, {"t0": 0.0}])
def test_preferences_that_make_no_sense(preference):
    with pytest.raises(UsageError, match="preference"):
        fitted(n=20).best(preference)


def test_too_few_points_and_unknown_names_are_refused():
    with pytest.raises(UsageError, match="too few"):
        fit_surrogates(weights(), [Objective("a")], sample(2, 3), [[0.1], [0.2]], [[8], [8]])
    with pytest.raises(UsageError, match="did you mean 'diagonal'"):
        fitted(n=20, form="diagnal")


def test_choices_and_other_numbers_are_learnt_as_effects_of_their_own():
    space = [
        Dimension("method", "method", choices=("a", "b")),
        *weights(1),
        Dimension("drop_rate.e0", "drop_rate", "e0"),
    ]

    def truth(u):
        return (0.4 + 0.2 * (u[:, 0] >= 0.5) - (u[:, 1] - 0.4) ** 2 - 0.3 * (u[:, 2] - 0.7) ** 2)[:, None]

    points = sample(32, 3)
    found = fit_surrogates(space, [Objective("a")], points, truth(points), np.full((32, 1), MANY))
    best = found.best()
    assert best.vector[0] >= 0.5
    assert best.vector[1:] == pytest.approx((0.4, 0.7), abs=0.08)
