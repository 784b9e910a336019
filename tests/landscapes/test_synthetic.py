"""Synthetic landscapes: what is said to be the best is the best, and the shapes are those of merges."""

import numpy as np
import pytest

from evomerge.landscapes import SYNTHETIC, MergeLandscape, landscape
from evomerge.landscapes.synthetic import CEILING, FLOOR, WEIGHT
from evomerge.reporting.front import non_dominated

SEVERAL = [name for name, size in SYNTHETIC.items() if size[2] > 1]
every = pytest.mark.parametrize("name", SYNTHETIC)


def cloud(problem, centres, n):
    """Points all over the cube, and as many around the centres, at all distances; in parts that fit into memory."""
    rng = np.random.default_rng(0)
    d, part = len(problem.dimensions), 5_000
    for _ in range(n // part):
        yield rng.random((part, d))
    for _ in range(n // part):
        chosen = centres[rng.integers(0, len(centres), part)]
        steps = 10 ** rng.uniform(-4, -0.5, (part, 1))
        yield np.clip(chosen + steps * rng.standard_normal((part, d)) * (rng.random((part, d)) < 0.5), 0, 1)


@every
def test_the_same_arguments_give_the_same_bits(name):
    problem = landscape(name)
    experts, groups, tasks, drop_rates = SYNTHETIC[name]
    again, other = (
        MergeLandscape(name, experts=experts, groups=groups, tasks=tasks, drop_rates=drop_rates, seed=seed)
        for seed in (0, 1)
    )
    points = np.random.default_rng(0).random((50, len(problem.dimensions)))
    assert (problem.means(points) == again.means(points)).all()
    assert (problem.means(points) != other.means(points)).any()


@every
def test_scores_lie_between_floor_and_ceiling(name):
    problem = landscape(name)
    d = len(problem.dimensions)
    points = np.vstack([np.random.default_rng(0).random((500, d)), np.zeros(d), np.ones(d), np.eye(d)])
    means = problem.means(points)
    assert means.shape == (len(points), len(problem.tasks))
    assert FLOOR <= means.min() < means.max() < CEILING
    assert problem.means(points[7:8])[0] == pytest.approx(means[7], abs=1e-12)


@pytest.mark.parametrize("n", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
@every
def test_the_optimum_is_not_beaten(name, n):
    problem = landscape(name)
    top = problem.optimum.gains.mean()
    assert problem.regret(problem.optimum.points[0]) == pytest.approx(0, abs=1e-12)
    assert (
        max(problem.gains(points).mean(axis=1).max() for points in cloud(problem, problem.optimum.points, n))
        < top + 1e-9
    )


@pytest.mark.parametrize("n", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEVERAL)
def test_the_front_is_not_dominated(name, n):
    problem = landscape(name)
    front = problem.front.gains
    assert len(front) >= 30
    assert (front >= 0).all()

    assert non_dominated(front).all()
    for points in cloud(problem, problem.front.points, n):
        for values in np.array_split(problem.gains(points), 10):
            assert (values[:, None] - front).min(axis=2).max() < 1e-9  # none is better in all objectives


@every
def test_ability_is_concave_so_climbing_finds_the_best(name):
    problem = landscape(name)
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 2000, len(problem.dimensions)))
    share = rng.random((2000, 1))

    def ability(points):
        return problem._ability(*problem._split(points))

    assert (ability(share * a + (1 - share) * b) >= share * ability(a) + (1 - share) * ability(b) - 1e-9).all()


@pytest.mark.parametrize("name", SEVERAL)
def test_each_expert_is_best_at_its_own_task_and_a_merge_trades(name):
    problem = landscape(name)
    experts = problem.means([problem.baselines[expert] for expert in problem.experts])
    for task in range(len(problem.tasks)):
        assert experts[:, task].argmax() == task
        assert experts[task, task] > problem.means([problem.baselines["base"]])[0, task] + 0.2
    assert problem.gains([problem.baselines["arithmetic 0.4"]]).mean() > 0.4


@every
def test_best_weights_add_up_to_more_than_one(name):
    problem = landscape(name)
    experts, groups = SYNTHETIC[name][:2]
    weights = WEIGHT * problem.optimum.points[0, : experts * groups].reshape(experts, groups)
    assert weights.sum(axis=0).mean() > 1.0


def test_drop_rates_have_a_plateau_and_a_cliff():
    problem = landscape("merge-18d-3")
    points = [[0.7 / WEIGHT] * 9 + [rate / 0.9] * 9 for rate in (0.0, 0.3, 0.5, 0.9)]
    none, some, half, most = problem.gains(points).mean(axis=1)
    assert some > none
    assert half > none - 0.1
    assert most < none - 0.3


def test_large_weights_fall_off_a_cliff():
    problem = landscape("merge-3d-3")
    assert problem.means([[1.0, 1.0, 1.0]]).max() < problem.means([problem.baselines["base"]]).min()


def test_layers_differ_in_importance_and_the_dimensions_tell_roughly():
    problem = landscape("merge-32d-1")
    assert problem.importance.max() > 5 * problem.importance.min()
    told = np.array([dimension.importance for dimension in problem.dimensions]).reshape(2, 16)
    assert told.mean() == pytest.approx(1.0)
    assert 0.7 < np.corrcoef(np.log(told[0]), np.log(problem.importance[0]))[0, 1] < 0.999


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="3 tasks, 2 experts"):
        MergeLandscape("x", experts=2, groups=1, tasks=3)
