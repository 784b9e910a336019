"""The optimizers map and bayesian_map: what they find, and what they do where quadratics say nothing."""

import itertools

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import BayesianMap, Failure, MapSearch, Problem, Proposal, create
from evomerge.optimizers.map.amortised import PREFERENCES, best_points, preferences
from evomerge.optimizers.map.forms import build_all
from evomerge.reporting.front import hypervolume
from tests.optimizers.landscapes import box, drive, quadratic, result
from tests.optimizers.landscapes import goals as plain_goals
from tests.optimizers.map.landscapes import HIGH, cliff, goals, logit_quadratic, search, weights


def volume(truth, w, k=3):
    scale = np.array([[o.low, o.high] for o in goals(truth, k)])
    return hypervolume((truth(w) - scale[:, 0]) / (scale[:, 1] - scale[:, 0]), np.zeros(k))


def grid_volume(truth, points=10, k=3):
    return volume(truth, np.array(list(itertools.product(np.linspace(0, HIGH, points), repeat=k))), k)


@pytest.mark.parametrize("name", ["map", "bayesian_map"])
def test_a_front_of_two_experts_in_forty_candidates(name):
    truth = logit_quadratic(1, 2)
    optimizer, found = search(name, truth, seed=0, items=128, budget=40, k=2)
    assert volume(truth, found, 2) > 0.95 * grid_volume(truth, 32, 2)
    assert optimizer.surrogates.trusted


@pytest.mark.slow
@pytest.mark.parametrize("items", [64, 200])
@pytest.mark.parametrize("name", ["map", "bayesian_map"])
def test_three_experts_reach_98_percent_of_the_grid(name, items):
    """The candidates scored, and the front read from the surrogates, both scored again without noise."""
    own, read = [], []
    for seed in range(4):
        truth = logit_quadratic(seed)
        optimizer, found = search(name, truth, seed=seed, items=items)
        own.append(volume(truth, found) / grid_volume(truth))
        front = best_points(optimizer.surrogates, preferences(3, PREFERENCES), optimizer.surrogates.points, seed=0)
        read.append(volume(truth, HIGH * front) / grid_volume(truth))
    assert np.mean(own) > 0.98
    assert np.mean(read) > 0.98


@pytest.mark.slow
def test_it_beats_random_search_where_the_landscape_is_no_quadratic():
    gains = []
    for seed in range(4):
        truth = cliff(seed)
        volumes = [volume(truth, search(name, truth, seed=seed)[1]) for name in ("map", "random")]
        gains.append(volumes[0] / volumes[1])
    assert np.mean(gains) > 1.15


@pytest.mark.parametrize("name", ["map", "bayesian_map"])
def test_one_objective_is_climbed_to_its_peak(name):
    proposals = drive(create(name, Problem(box(6), plain_goals(), seed=0)), 60)
    assert 1 - max(quadratic(p.vector)[0] for p in proposals) < 0.005


def test_floors_are_kept():
    """Two tasks that want opposite ends of one weight: with a floor on the second the search stays below 0.6."""
    tasks = plain_goals(2)
    tasks[1] = type(tasks[1])("task1", 0.0, 1.0, floor=0.5)
    optimizer = MapSearch(Problem(weights(1), tasks, seed=0))
    proposals = drive(optimizer, 40, lambda v: [0.1 + 0.8 * v[0], 0.8 - 0.5 * v[0]])
    late = np.array([p.vector[0] for p in proposals[20:]])
    assert np.mean(late <= 0.62) > 0.8


def test_an_objective_of_no_weight_is_left_out():
    tasks = plain_goals(2)
    tasks[1] = type(tasks[1])("task1", 0.0, 1.0, weight=0.0)
    proposals = drive(
        MapSearch(Problem(weights(2), tasks, seed=0)), 30, lambda v: [0.9 - (v[0] - 0.3) ** 2, 0.2 + 0.7 * v[0] * v[1]]
    )
    assert np.median([abs(p.vector[0] - 0.3) for p in proposals[-10:]]) < 0.15


def test_parallel_proposals_keep_apart():
    optimizer = MapSearch(Problem(weights(2), plain_goals(2), seed=0))
    truth = logit_quadratic(1, 2)
    drive(optimizer, 20, lambda v: truth(HIGH * np.array([v]))[0].tolist())
    batch = np.array([p.vector for p in optimizer.ask(8)])
    gaps = np.abs(batch[:, None] - batch).max(axis=2) + 9 * np.eye(8)
    assert gaps.min() >= 0.01
    assert np.median(gaps.min(axis=1)) > 0.02


def test_it_does_not_run_against_a_wall_of_failures():
    """The quadratic rises towards a corner where every candidate fails."""
    optimizer = MapSearch(Problem(weights(2), plain_goals(), seed=0))
    failures = 0
    for _ in range(50):
        (proposal,) = optimizer.ask(1)
        u, v = proposal.vector
        fails = u > 0.6 and v > 0.6
        failures += fails
        optimizer.tell(proposal, Failure("nan", "") if fails else result(0.1 + 0.3 * u + 0.3 * v))
    assert failures < 15


def test_noise_is_searched_evenly():
    rng = np.random.default_rng(0)
    optimizer = MapSearch(Problem(weights(3), plain_goals(), seed=0))
    proposals = drive(optimizer, 60, lambda v: [rng.binomial(64, 0.5) / 64])
    late = np.array([p.vector for p in proposals[20:]])
    assert not optimizer.surrogates.trusted
    assert (np.ptp(late, axis=0) > 0.6).all()


def test_the_design_is_short_of_the_starting_points_that_are_told():
    optimizer = MapSearch(Problem(weights(2), plain_goals(), seed=0, first_number=3))
    for number, vector in enumerate([(0.0, 0.0), (2 / 3, 0.0), (0.0, 2 / 3)]):
        optimizer.tell(Proposal(number, vector), result(0.5))
    first = [p.vector for p in optimizer.ask(9)]
    assert (1 / 3, 1 / 3) in first
    assert (0.5, 0.5) in first
    assert (0.0, 0.0) not in first


def test_coefficients_are_told_against_the_budget():
    (line,) = MapSearch(Problem(weights(3), plain_goals(), seed=0)).describe(100)
    assert line == (
        "map: coefficients of a quadratic for each task: full 10, diagonal 7; 100 candidates, 14 of them the starting "
        "design"
    )
    wide = weights(3, 20)
    lines = MapSearch(Problem(wide, plain_goals(), seed=0)).describe(60)
    assert f"full {1 + 60 + 60 * 61 // 2}" in lines[0]
    assert f"{min(form.size for form in build_all(wide))} coefficients are many for 60 candidates" in lines[1]
    assert MapSearch(Problem(weights(3), plain_goals(), seed=0), form="full").describe(None) == [
        "map: 10 coefficients a task"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 2}, "start: 2"),
        ({"start": True}, "start"),
        ({"form": "ful"}, "did you mean 'full'"),
        ({"coefficients": "weight"}, "did you mean 'weights'"),
        ({"warp": "log"}, "unknown warp"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        MapSearch(Problem(weights(2), plain_goals(), seed=0), **options)


@pytest.mark.parametrize("width", [0, -1.0, True, "wide"])
def test_bad_widths_are_refused(width):
    with pytest.raises(UsageError, match="width"):
        BayesianMap(Problem(weights(2), plain_goals(), seed=0), width=width)
