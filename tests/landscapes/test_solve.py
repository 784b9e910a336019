"""The solver: a front that is known in closed form, and the weeding of dominated points."""

import numpy as np
import pytest

from evomerge.landscapes.solve import best, climb_by_steps, pareto, undominated
from evomerge.reporting.front import hypervolume, non_dominated

A, B = np.array([0.2, 0.3, 0.9, 0.5]), np.array([0.7, 0.8, 0.1, 0.5])


def two_peaks(points):
    """Rising functions of concave ones; all points between A and B, and no others, are on the front."""
    points = np.asarray(points)
    distances = np.stack([((points - peak) ** 2).sum(axis=1) for peak in (A, B)], axis=1)
    return np.exp(-3 * distances)


def test_the_front_is_found_exactly():
    front = pareto(two_peaks, 4, 2, starts=[A, B])
    assert len(front.points) > 25
    assert (front.gains == two_peaks(front.points)).all()
    along = (front.points - A) @ (B - A) / ((B - A) @ (B - A))
    off = front.points - (A + np.clip(along, 0, 1)[:, None] * (B - A))
    assert np.abs(off).max() < 2e-3
    assert along.min() < 0.02
    assert along.max() > 0.98
    assert np.diff(np.sort(front.gains[:, 0])).max() < 0.1


@pytest.mark.parametrize("climb", [None, climb_by_steps(0.1)])
def test_the_volume_is_that_of_the_whole_front(climb):
    """Between A and B the front is known; ten thousand of its points hold nearly all of its volume."""
    along = np.linspace(0, 1, 10_000)[:, None]
    whole = hypervolume(two_peaks(A + along * (B - A)), np.zeros(2))
    front = pareto(two_peaks, 4, 2, starts=[A, B], climb=climb)
    assert front.volume == pytest.approx(whole, rel=3e-3)
    assert hypervolume(front.gains, np.zeros(2)) < front.volume


def test_the_volume_of_an_eighth_of_a_ball():
    def on_the_ball(points):
        data = np.asarray(points) + 1e-9
        return data / np.linalg.norm(data, axis=1, keepdims=True)

    assert pareto(on_the_ball, 3, 3, starts=[[1] * 3]).volume == pytest.approx(np.pi / 6, rel=0.01)


def test_the_front_keeps_to_the_cube():
    front = pareto(lambda points: np.asarray(points)[:, :2] + 1, 3, 2, starts=[[0.5, 0.5, 0.5]])
    assert front.gains == pytest.approx(np.full_like(front.gains, 2.0), abs=1e-6)


def test_what_falls_below_zero_is_not_on_the_front():
    front = pareto(lambda points: two_peaks(points) - 0.35, 4, 2, starts=[(A + B) / 2])
    assert len(front.gains) > 5
    assert (front.gains >= 0).all()


def test_the_largest_mean_is_found():
    found = best(lambda points: 1 - ((np.asarray(points) - A) ** 2).sum(axis=1, keepdims=True), 4, starts=[B])
    assert found.points[0] == pytest.approx(A, abs=1e-5)
    assert found.gains[0, 0] == pytest.approx(1.0)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_weeding_keeps_what_nothing_dominates(tasks):
    values = np.random.default_rng(tasks).random((1500, tasks)).round(2)  # with ties
    assert undominated(values, block=100).tolist() == np.flatnonzero(non_dominated(values)).tolist()
