"""Several scores as one number."""

import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import Objective, maximin, weighted_sum
from evomerge.optimizers.scalarization import scalarization

GOALS = [Objective("math", 0.2, 0.6, weight=3.0), Objective("code", 0.5, 0.9)]


def test_weighted_sum_of_normalised_scores():
    assert weighted_sum(GOALS, (0.6, 0.5)) == pytest.approx(0.75)
    assert weighted_sum(GOALS, (0.2, 0.9)) == pytest.approx(0.25)
    assert weighted_sum(GOALS, (0.0, 1.3)) == pytest.approx((3 * -0.5 + 2.0) / 4)


def test_maximin_is_the_worst_task():
    assert maximin(GOALS, (0.6, 0.7)) == pytest.approx(0.5)
    assert maximin(GOALS, (0.4, 0.9)) == pytest.approx(0.5)


def test_unknown_or_equal_anchors_leave_the_score_as_it_is():
    goals = [Objective("a"), Objective("b", 0.5, 0.5)]
    assert weighted_sum(goals, (0.3, 0.5)) == pytest.approx(0.4)
    assert maximin(goals, (0.3, 0.5)) == 0.3


@pytest.mark.parametrize("weights", [(0.0, 0.0), (-1.0, 2.0)])
def test_weights_that_make_no_sense(weights):
    with pytest.raises(UsageError, match="weights"):
        weighted_sum([Objective("a", weight=weights[0]), Objective("b", weight=weights[1])], (0.1, 0.2))


def test_by_name():
    assert scalarization("maximin") is maximin
    with pytest.raises(UsageError, match="did you mean 'weighted_sum'"):
        scalarization("weighted-sum")
