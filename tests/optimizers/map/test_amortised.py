"""The amortised front: the best points for all preferences, the same in any arithmetic, with promises that hold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import Objective, fit_surrogates
from evomerge.optimizers.map import AmortisedFront, Answers, amortise
from evomerge.optimizers.map.amortised import PLACES, best_rows, preferences, worth
from evomerge.optimizers.scalarization import weighted_sum
from evomerge.recipes import Dimension
from tests.optimizers.map.landscapes import HIGH, goals, logit_quadratic, weights
from tests.optimizers.map.test_surrogates import sample

MANY = 4000  # items: next to no noise


def fitted(dimensions, objectives, points, truth, *, items=MANY, seed=0):
    """Surrogates and item scores: an item is solved where its threshold lies below the chance."""
    p = truth(points)
    rng = np.random.default_rng(seed)
    answers = tuple((rng.random((1, items)) < column[:, None]).astype(float) for column in p.T)
    values = np.stack([scores.mean(axis=1) for scores in answers], axis=1)
    found = fit_surrogates(dimensions, objectives, points, values, np.full(values.shape, items))
    return found, Answers(tuple(range(len(points))), answers)


def front_of(dimensions, objectives, points, truth, *, items=MANY, seed=0, new=200):
    found, answers = fitted(dimensions, objectives, points, truth, items=items, seed=seed)
    front = amortise(found, answers, [new] * len(objectives), seed=0)
    assert front is not None
    return front


def test_the_front_of_known_surrogates_is_the_true_one():
    """Two tasks with round peaks: the front is the line between them."""
    peaks = np.array([[0.2, 0.2], [0.8, 0.6]])

    def truth(u):
        return np.stack([1 / (1 + np.exp(-1 + 6 * ((u - peak) ** 2).sum(axis=1))) for peak in peaks], axis=1)

    points = np.vstack([sample(30, 2), [[0, 0], [0, 1], [1, 0], [1, 1]]])
    front = front_of(weights(2), [Objective("a", 0.1, 0.8), Objective("b", 0.1, 0.8)], points, truth)
    along = (front.vectors - peaks[0]) @ (peaks[1] - peaks[0]) / ((peaks[1] - peaks[0]) ** 2).sum()
    away = np.linalg.norm(front.vectors - peaks[0] - along[:, None] * (peaks[1] - peaks[0]), axis=1)
    assert len(front.vectors) > 100
    assert away.max() < 0.05
    assert along.min() < 0.05
    assert along.max() > 0.95
    for preference, expected in (({"a": 1.0}, peaks[0]), ({"b": 2.0}, peaks[1]), (None, peaks.mean(axis=0))):
        assert front.vectors[front.best(preference)] == pytest.approx(expected, abs=0.05)
    assert len(front.telling(10)) == len(set(front.telling(10))) == 10


@pytest.fixture(scope="module")
def three():
    truth = logit_quadratic(0)
    return front_of(weights(), goals(truth), sample(40, 3), lambda u: truth(HIGH * u), items=100)


def test_the_best_is_that_of_the_weighted_sum(three):
    rng = np.random.default_rng(3)
    for _ in range(30):
        preference = dict(zip(("t0", "t1", "t2"), rng.dirichlet([1, 1, 1]).tolist(), strict=True))
        tasks = [replace(o, weight=preference[o.name]) for o in three.objectives]
        heights = [weighted_sum(tasks, row) for row in three.values.tolist()]
        assert heights[three.best(preference)] == pytest.approx(max(heights), abs=1e-12)


def test_plain_sums_in_the_order_of_the_tasks_give_the_same_numbers(three):
    """What a page computes: one addition after the other, in double precision."""
    preference = [0.3, 0.5, 0.2]
    found = worth(three.objectives, three.values, np.array([preference]))[:, 0]
    for row, height in zip(three.values.tolist(), found.tolist(), strict=True):
        total = weight = 0.0
        for w, o, value in zip(preference, three.objectives, row, strict=True):
            total += w * ((value - o.low) / (o.high - o.low))
            weight += w
        assert total / weight == height


def test_text_there_and_back_gives_the_same_front(three):
    loaded = AmortisedFront.from_dict(json.loads(json.dumps(three.to_dict())))
    for name in ("vectors", "values", "low", "high"):
        assert np.array_equal(getattr(loaded, name), getattr(three, name))
    assert (loaded.objectives, loaded.items) == (three.objectives, three.items)
    assert np.array_equal(np.round(three.vectors, PLACES), three.vectors)
    assert len(np.unique(three.vectors, axis=0)) == len(three.vectors)


@pytest.mark.parametrize(
    "change", [{"values": [[1.0]]}, {"vectors": []}, {"objectives": [{"nam": "t"}]}, {"low": None}]
)
def test_damaged_data_are_refused(three, change):
    with pytest.raises(UsageError, match="this is no front"):
        AmortisedFront.from_dict({**three.to_dict(), **change})


def test_every_point_is_the_best_for_some_preference(three):
    found = best_rows(three.objectives, three.values, preferences(3, 500))
    assert set(found) | {three.best()} == set(range(len(three.values)))


def test_where_all_miss_a_floor_the_least_lacking_wins_then_worth_then_the_first():
    tasks = [Objective("a", 0.0, 1.0, floor=0.5), Objective("b", 0.0, 1.0)]
    weights_ = np.array([[0.0, 1.0]])
    assert best_rows(tasks, np.array([[0.3, 0.9], [0.4, 0.1], [0.4, 0.2], [0.4, 0.2]]), weights_) == 2
    assert best_rows(tasks, np.array([[0.3, 0.9], [0.5, 0.1], [0.9, 0.2]]), weights_) == 2


def test_it_is_the_same_every_time(three):
    truth = logit_quadratic(0)
    again = front_of(weights(), goals(truth), sample(40, 3), lambda u: truth(HIGH * u), items=100)
    assert again.to_dict() == three.to_dict()


def test_floors_bind():
    truth = logit_quadratic(0)
    free = front_of(weights(), goals(truth), sample(40, 3), lambda u: truth(HIGH * u))
    best = free.best({"t0": 1.0})
    floor = float(free.values[best, 1]) + 0.1
    tasks = [replace(o, floor=floor if o.name == "t1" else None) for o in goals(truth)]
    bound = front_of(weights(), tasks, sample(40, 3), lambda u: truth(HIGH * u))
    assert (bound.values[:, 1] >= floor).all()
    assert bound.values[bound.best({"t0": 1.0}), 0] < free.values[best, 0]


def test_nothing_is_extrapolated():
    points = 0.3 + 0.3 * sample(30, 3)
    objectives = [Objective(f"t{j}") for j in range(3)]
    found, answers = fitted(weights(), objectives, points, lambda u: 0.2 + 0.2 * u)
    front = amortise(found, answers, [100] * 3, seed=0)
    assert np.all(front.vectors <= points.max(axis=0) + 1e-6)
    assert found.strain(front.vectors).max() <= 1.0 + 1e-3


@pytest.mark.parametrize("preference", [{"x": 1.0}, {"t0": -1.0}, {"t0": 0.0}, {"t0": float("nan")}, {"t0": np.inf}])
def test_preferences_that_make_no_sense(three, preference):
    with pytest.raises(UsageError, match="preference"):
        three.best(preference)


def test_choices_and_other_numbers_have_their_best():
    space = [
        Dimension("method", "method", choices=("a", "b")),
        *weights(1),
        Dimension("drop_rate.e0", "drop_rate", "e0"),
    ]

    def truth(u):
        return (0.4 + 0.2 * (u[:, 0] >= 0.5) - (u[:, 1] - 0.4) ** 2 - 0.3 * (u[:, 2] - 0.7) ** 2)[:, None]

    front = front_of(space, [Objective("a")], np.clip(sample(32, 3), 0.1, 0.9), truth)
    (vector,) = front.vectors
    assert vector[0] >= 0.5
    assert vector[1:] == pytest.approx((0.4, 0.7), abs=0.1)


def test_what_cannot_be_trusted_gives_none():
    rng = np.random.default_rng(0)
    scores = (rng.random((30, 50)) < 0.5).astype(float)
    found = fit_surrogates(
        weights(), [Objective("a")], sample(30, 3), scores.mean(axis=1)[:, None], np.full((30, 1), 50)
    )
    assert amortise(found, Answers(tuple(range(30)), (scores,)), [50], seed=0) is None


@pytest.mark.parametrize(("m", "most", "count"), [(1, 500, 1), (2, 500, 500), (3, 500, 496), (4, 500, 455), (9, 40, 9)])
def test_preferences_cover_the_simplex(m, most, count):
    found = preferences(m, most)
    assert found.shape == (count, m)
    assert found.min() >= 0.0
    assert found.sum(axis=1) == pytest.approx(1.0)
    assert len(np.unique(found, axis=0)) == count
    assert all((found == corner).all(axis=1).any() for corner in np.eye(m))
