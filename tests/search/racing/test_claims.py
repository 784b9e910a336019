"""What "as good" means, against the scalarizations and the front themselves."""

import numpy as np
import pytest

from evomerge.optimizers import Objective
from evomerge.optimizers.scalarization import SCALARIZATIONS
from evomerge.search.racing.claims import corners, feasible, regions

GOALS = [Objective("math", 0.2, 0.7, weight=2.0), Objective("code", None, None), Objective("text", 0.5, 0.9, 0.5)]
FLOORED = [Objective("math", 0.2, 0.7, floor=0.3), Objective("code", 0.1, 0.6)]


def as_good(objectives, rule, candidate, *references, margin=0.0):
    return any(
        all(claim.holds(candidate) for claim in region) for region in regions(objectives, rule, references, margin)
    )


@pytest.mark.parametrize("rule", sorted(SCALARIZATIONS))
@pytest.mark.parametrize("margin", [0.0, 0.1])
def test_scalarized(rule, margin):
    rng, value, answers = np.random.default_rng(0), SCALARIZATIONS[rule], []
    for candidate, *references in rng.random((300, 3, 3)):
        wanted = value(GOALS, candidate) >= max(value(GOALS, one) for one in references) + margin
        assert as_good(GOALS, rule, candidate, *references, margin=margin) == wanted
        answers.append(wanted)
    assert 0.1 < np.mean(answers) < 0.9


@pytest.mark.parametrize("rule", ["front", *SCALARIZATIONS])
def test_as_good_as_itself(rule):
    assert as_good(GOALS, rule, (0.3, 0.4, 0.7), (0.3, 0.4, 0.7))
    assert not as_good(GOALS, rule, (0.3, 0.4, 0.7), (0.3, 0.4, 0.7), margin=0.01)


def test_front():
    assert as_good(GOALS, "front", (0.0, 0.9, 0.0), (0.5, 0.8, 0.7))
    assert not as_good(GOALS, "front", (0.4, 0.7, 0.6), (0.5, 0.8, 0.7))
    assert not as_good(GOALS, "front", (0.0, 0.9, 0.0), (0.5, 0.8, 0.7), margin=0.2)


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_dominated_by_none_of_many(tasks):
    rng, answers = np.random.default_rng(tasks), []
    objectives = [Objective(f"task{j}", 0.0, 1.0) for j in range(tasks)]
    for count in range(1, 12):
        for candidate, *references in rng.integers(0, 6, (40, count + 1, tasks)) / 6:
            wanted = not any((candidate < one).all() for one in references)
            assert as_good(objectives, "front", candidate, *references) == wanted
            answers.append(wanted)
    assert 0.03 < np.mean(answers) < 0.97


def test_two_members_of_a_front_have_three_corners():
    assert sorted(corners([(0.2, 0.8), (0.7, 0.3)])) == [(-np.inf, 0.8), (0.2, 0.3), (0.7, -np.inf)]


def test_an_objective_of_weight_zero_does_not_count_in_tchebycheff():
    objectives = [Objective("a", 0.0, 1.0), Objective("b", 0.0, 1.0, weight=0.0)]
    assert as_good(objectives, "tchebycheff", (0.6, 0.0), (0.5, 0.9))


@pytest.mark.parametrize("rule", ["front", *SCALARIZATIONS])
def test_below_a_floor_is_never_as_good_as_above_it(rule):
    assert feasible(FLOORED, (0.31, 0.2))
    assert not feasible(FLOORED, (0.29, 0.6))
    assert not as_good(FLOORED, rule, (0.29, 0.6), (0.31, 0.2))


@pytest.mark.parametrize("rule", ["front", *SCALARIZATIONS])
def test_against_one_below_its_floor_only_being_worse_everywhere_counts(rule):
    assert as_good(FLOORED, rule, (0.31, 0.0), (0.2, 0.6))
    assert not as_good(FLOORED, rule, (0.1, 0.5), (0.2, 0.6))
