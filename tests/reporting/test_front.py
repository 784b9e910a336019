"""Fronts against brute force, closed forms and Monte Carlo."""

import math
import time

import numpy as np
import pytest

from evomerge.reporting.front import hypervolume, hypervolumes, knee, non_dominated, preferred, spread_out

NAN = math.nan


def sphere(rng, n, m):
    """n points on the positive part of the unit sphere: none beats another."""
    points = np.abs(rng.standard_normal((n, m)))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_ties_duplicates_and_nan():
    points = [[1, 5], [2, 4], [2, 4], [2, 3], [1, 4], [NAN, 9], [3, 1]]
    assert non_dominated(points).tolist() == [True, True, True, False, False, False, True]


def test_one_objective_and_none():
    assert non_dominated([[1], [3], [3], [2]]).tolist() == [False, True, True, False]
    assert non_dominated([]).tolist() == []
    assert non_dominated(np.empty((0, 3))).tolist() == []
    assert non_dominated([[NAN, NAN]]).tolist() == [False]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_mask_is_the_definition(m):
    points = np.random.default_rng(m).integers(0, 6, (80, m)).astype(float)  # many ties
    for i, keep in enumerate(non_dominated(points)):
        beaten = any((q >= points[i]).all() and (q > points[i]).any() for q in points)
        assert keep == (not beaten)
    assert non_dominated(sphere(np.random.default_rng(0), 50, m)).all()


def test_wrong_shapes_and_infinite_points():
    for bad in ([1.0, 2.0], [[[1.0]]], [[], []]):
        with pytest.raises(ValueError, match="shape"):
            non_dominated(bad)
    with pytest.raises(ValueError, match="infinite"):
        non_dominated([[1.0, math.inf]])


def test_hypervolume_in_closed_form():
    assert hypervolume([[3.0]], [1.0]) == 2.0
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [0, 0]) == 6.0
    assert hypervolume([[1, 3], [2, 2], [3, 1]], [0.5, 1.0]) == pytest.approx(0.5 * 2 + 1.0 * 1)
    assert hypervolume([[1, 1, 2], [1, 2, 1], [2, 1, 1]], [0, 0, 0]) == 4.0
    assert hypervolume(np.eye(4) + 1, np.zeros(4)) == 5.0
    assert hypervolume([[0.5] * 6], [0] * 6) == 0.5**6


@pytest.mark.parametrize("m", [2, 3, 4])
def test_hypervolume_is_what_monte_carlo_counts(m):
    rng = np.random.default_rng(m)
    points = np.vstack([sphere(rng, 25, m), rng.random((15, m))])
    samples = rng.random((200_000, m)) * 1.1 - 0.1
    covered = np.zeros(len(samples), dtype=bool)
    for point in points:
        covered |= (samples <= point).all(axis=1)
    expected, error = covered.mean() * 1.1**m, covered.std() / math.sqrt(len(samples)) * 1.1**m
    assert hypervolume(points, [-0.1] * m) == pytest.approx(expected, abs=4 * error)


@pytest.mark.parametrize("m", [1, 2, 3, 4])
def test_hypervolume_ignores_order_duplicates_dominated_and_outside_points(m):
    rng = np.random.default_rng(m)
    points = np.round(rng.random((30, m)), 1)
    value = hypervolume(points, np.zeros(m))
    extra = [points[0], points[0] * 0.5, np.r_[2.0, [-1.0] * (m - 1)] if m > 1 else [-1.0], [NAN] * m, [0.0] * m]
    assert hypervolume(rng.permutation(np.vstack([points, extra])), np.zeros(m)) == pytest.approx(value)
    assert hypervolume(points[non_dominated(points)], np.zeros(m)) == pytest.approx(value)
    assert hypervolume(points + 3.0, np.full(m, 3.0)) == pytest.approx(value)


def test_hypervolume_of_nothing():
    assert hypervolume([], [0, 0]) == 0.0
    assert hypervolume(np.empty((0, 2)), [0, 0]) == 0.0
    assert hypervolume([[1, 0]], [0, 0]) == 0.0
    assert hypervolume([[NAN, 5]], [0, 0]) == 0.0
    for reference in ([0], 0.0, [0, NAN]):
        with pytest.raises(ValueError, match="reference"):
            hypervolume([[1, 1]], reference)


def test_a_large_front_of_four_objectives_is_quick():
    started = time.perf_counter()
    hypervolume(sphere(np.random.default_rng(0), 200, 4), np.zeros(4))
    assert time.perf_counter() - started < 10


def test_the_knee_sticks_out_farthest():
    assert knee([[0, 1], [0.3, 0.8], [0.7, 0.75], [0.95, 0.1], [1, 0], [0.6, 0.6]]) == 2
    assert knee([[0, 100], [0.3, 80], [0.7, 75], [1, 0]]) == 2  # whatever the units
    front = np.array([[math.cos(t), math.sin(t)] for t in np.linspace(0, math.pi / 2, 91)])
    assert knee(front) == 45
    line = front[[0, -1]]
    u = (line[1] - line[0]) / np.linalg.norm(line[1] - line[0])
    distance = [abs(u[0] * (p - line[0])[1] - u[1] * (p - line[0])[0]) for p in front]
    assert int(np.argmax(distance)) == 45
    assert knee([*sphere(np.random.default_rng(0), 4, 3), [0.9, 0.9, 0.9]]) == 4


def test_knee_of_odd_fronts():
    assert knee([[NAN, 9], [1, 1], [1, 1]]) == 1
    assert knee([[0.5, 1], [0.5, 1], [0.4, 1]]) == 0
    for none in ([], [[NAN, 1]]):
        with pytest.raises(ValueError, match="no points"):
            knee(none)


def test_preferred_follows_the_weights():
    points = [[1, 0], [0.8, 0.5], [0.5, 0.8], [0, 1], [0.1, 0.1]]
    assert [preferred(points, w) for w in ([1, 0], [2, 1], [1, 2], [0, 5])] == [0, 1, 2, 3]
    assert preferred([[1, 0], [1, 1], [1, 1]], [1, 0]) == 1  # never a dominated point


@pytest.mark.parametrize("weights", [[1], [0, 0], [-1, 2], [NAN, 1], [1, 1, 1]])
def test_weights_that_do_not_fit(weights):
    with pytest.raises(ValueError, match="weights"):
        preferred([[1, 0], [0, 1]], weights)


def test_spread_out_takes_what_adds_most():
    points = [[0.9, 0.1], [0.5, 0.5], [0.52, 0.52], [0.1, 0.9], [-1, 3], [0.52, 0.52]]
    assert spread_out(points, [0, 0], 9) == [2, 0, 3]
    assert spread_out(points, [0, 0], 2) == [2, 0]
    assert spread_out(points, [0, 0], 0) == []
    assert spread_out([], [0, 0], 3) == []
    assert spread_out([[-1, -1]], [0, 0], 3) == []


@pytest.mark.parametrize("m", [1, 2, 3])
def test_spread_out_is_greedy(m):
    points = sphere(np.random.default_rng(m), 12, m)
    taken = spread_out(points, np.zeros(m), 4)
    for step in range(len(taken)):
        reached = hypervolume(points[taken[: step + 1]], np.zeros(m))
        others = [hypervolume(points[[*taken[:step], i]], np.zeros(m)) for i in range(12)]
        assert reached == pytest.approx(max(others))


@pytest.mark.parametrize("m", [1, 2, 3, 4, 5])
def test_many_hypervolumes_at_once(m):
    rng = np.random.default_rng(m)
    sets = np.round(rng.normal(0.4, 0.5, (20, 9, m)), 1)  # ties, duplicates, points outside
    sets[0] = -1.0
    sets[1, 3, 0] = NAN
    reference = np.full(m, 0.1)
    assert hypervolumes(sets, reference) == pytest.approx([hypervolume(points, reference) for points in sets])


def test_many_hypervolumes_of_wrong_shapes():
    for points, reference in (([[1.0]], [0.0]), ([[[1.0, 2.0]]], [0.0]), (np.empty((2, 0, 1)), [0.0])):
        with pytest.raises(ValueError, match="shape"):
            hypervolumes(points, reference)
