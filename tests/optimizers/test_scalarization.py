"""Several scores as one number."""

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import SCALARIZATIONS, Objective, maximin, tchebycheff, weighted_sum
from evomerge.optimizers.scalarization import scalarization

GOALS = [Objective("math", 0.2, 0.6, weight=3.0), Objective("code", 0.5, 0.9)]
FLOORS = [Objective("math", 0.2, 0.6, weight=3.0, floor=0.4), Objective("code", 0.5, 0.9, floor=0.6)]


def test_weighted_sum_of_normalised_scores():
    assert weighted_sum(GOALS, (0.6, 0.5)) == pytest.approx(0.75)
    assert weighted_sum(GOALS, (0.2, 0.9)) == pytest.approx(0.25)
    assert weighted_sum(GOALS, (0.0, 1.3)) == pytest.approx((3 * -0.5 + 2.0) / 4)


def test_maximin_is_the_worst_task():
    assert maximin(GOALS, (0.6, 0.7)) == pytest.approx(0.5)
    assert maximin(GOALS, (0.4, 0.9)) == pytest.approx(0.5)


def test_tchebycheff_is_the_largest_weighted_distance_to_the_experts():
    assert tchebycheff(GOALS, (0.6, 0.9)) == 1.0
    assert tchebycheff(GOALS, (0.6, 0.7)) == pytest.approx(1 - 0.5 * 0.5)
    assert tchebycheff(GOALS, (0.4, 0.9)) == pytest.approx(1 - 1.5 * 0.5)
    assert tchebycheff(GOALS, (0.4, 0.5)) == pytest.approx(1 - 1.5 * 0.5)


def test_tchebycheff_with_equal_weights_is_maximin():
    goals = [Objective("a", 0.1, 0.5, weight=2.0), Objective("b", 0.3, 0.9, weight=2.0)]
    for values in np.random.default_rng(0).random((20, 2)):
        assert tchebycheff(goals, values) == pytest.approx(maximin(goals, values))


def test_an_objective_without_weight_does_not_count_in_tchebycheff():
    goals = [Objective("a", 0.0, 1.0), Objective("b", 0.0, 1.0, weight=0.0)]
    assert tchebycheff(goals, (0.7, 0.0)) == tchebycheff(goals, (0.7, 1.0))


def test_tchebycheff_finds_the_middle_of_a_concave_front_and_the_weighted_sum_never_does():
    """The front is hollow: its ends are better than its middle in any weighted sum."""
    goals = [Objective("a", 0.0, 1.0), Objective("b", 0.0, 1.0)]
    front = [(t, (1 - t**0.5) ** 2) for t in np.linspace(0, 1, 101)]
    assert tchebycheff(goals, front[25]) == max(tchebycheff(goals, point) for point in front)
    assert max(front, key=lambda point: weighted_sum(goals, point)) in (front[0], front[-1])


def test_unknown_or_equal_anchors_leave_the_score_as_it_is():
    goals = [Objective("a"), Objective("b", 0.5, 0.5)]
    assert weighted_sum(goals, (0.3, 0.5)) == pytest.approx(0.4)
    assert maximin(goals, (0.3, 0.5)) == 0.3


@pytest.mark.parametrize("joined", SCALARIZATIONS.values())
def test_a_point_below_a_floor_is_worse_than_any_that_is_not(joined):
    worst = joined(FLOORS, (0.4, 0.6))
    for below in [(0.399, 1.0), (1.0, 0.599), (0.39, 0.59), (0.0, 0.0)]:
        assert joined(FLOORS, below) < worst - 1000
    assert worst == joined(GOALS, (0.4, 0.6))


@pytest.mark.parametrize("joined", SCALARIZATIONS.values())
def test_below_the_floors_less_lacking_is_better_whatever_the_scores(joined):
    nearer, farther = (0.38, 0.6), (0.37, 0.9)
    assert joined(FLOORS, nearer) > joined(FLOORS, farther)
    assert joined(FLOORS, (0.38, 0.5)) < joined(FLOORS, nearer)


@pytest.mark.parametrize("joined", [weighted_sum, tchebycheff])
@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0)])
def test_weights_that_make_no_sense(joined, weights):
    with pytest.raises(UsageError, match="weights"):
        joined([Objective("a", weight=weights[0]), Objective("b", weight=weights[1])], (0.1, 0.2))


def test_by_name():
    for name in ("weighted_sum", "tchebycheff", "maximin"):
        assert scalarization(name).__name__ == name
    with pytest.raises(UsageError, match="did you mean 'weighted_sum'"):
        scalarization("weighted-sum")
