"""Whom a candidate runs against."""

import pytest

from evomerge.optimizers import Objective
from evomerge.search.racing import references

GOALS = [Objective("math", 0.0, 1.0), Objective("code", 0.0, 1.0, weight=3.0)]
SCORES = {4: (0.9, 0.1), 2: (0.5, 0.5), 9: (0.1, 0.8), 7: (0.4, 0.4), 8: (0.5, 0.5), 3: (0.89, 0.12)}


@pytest.mark.parametrize(("rule", "best"), [("weighted_sum", 9), ("maximin", 2), ("tchebycheff", 9)])
def test_the_best_one_under_a_scalarization(rule, best):
    goals = GOALS if rule != "tchebycheff" else [GOALS[0], Objective("code", 0.0, 1.0, weight=9.0)]
    assert references(goals, rule, SCORES, 8) == [best]


def test_the_front_once_each():
    assert sorted(references(GOALS, "front", SCORES, 8)) == [2, 3, 4, 9]


def test_few_of_the_front_are_spread_out():
    few = references(GOALS, "front", SCORES, 3)
    assert 2 in few
    assert 9 in few
    assert len(few) == 3
    assert len(set(few) & {3, 4}) == 1


def test_those_below_a_floor_are_left_out_while_there_are_others():
    goals = [Objective("math", 0.0, 1.0, floor=0.3), GOALS[1]]
    assert 9 not in references(goals, "front", SCORES, 8)
    assert references(goals, "front", {9: SCORES[9]}, 8) == [9]
    assert references(goals, "weighted_sum", SCORES, 8) != [9]


def test_nothing_known_yet():
    assert references(GOALS, "front", {}, 8) == []
