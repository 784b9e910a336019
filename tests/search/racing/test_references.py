"""Whom a candidate runs against."""

import numpy as np
import pytest

from evomerge.optimizers import Objective
from evomerge.search.racing import References, references

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


@pytest.mark.parametrize("rule", ["front", "weighted_sum", "maximin"])
@pytest.mark.parametrize("floor", [None, 0.4])
def test_kept_one_by_one_they_are_those_of_all(rule, floor):
    goals = [Objective("math", 0.1, 0.9, floor=floor), GOALS[1], Objective("chat", 0.3, 0.2)]
    for seed in range(20):
        known, kept = {}, References(goals, rule, 4)
        assert kept.now() == []
        for number, row in enumerate(np.random.default_rng(seed).integers(0, 7, size=(40, 3)) / 8):
            scores = tuple(row.tolist())
            known[number * 7 % 41] = scores
            kept.add(number * 7 % 41, scores)
            assert kept.now() == references(goals, rule, known, 4)
