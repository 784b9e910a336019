"""The order of items: without replacement, with the probabilities that it says."""

import numpy as np
import pytest

from evomerge.search.racing.order import UNIFORM, draw

LEFT = np.array([2, 3, 5, 7, 11])


def test_every_item_once():
    drawn = draw(LEFT, np.arange(5.0), 5, np.random.default_rng(0))
    assert sorted(drawn.places) == LEFT.tolist()
    assert drawn.chances.shape == (5, 5)


def test_chances_of_the_items_left_add_up_to_one_and_no_item_is_neglected():
    drawn = draw(LEFT, np.array([0.0, 0.0, 1.0, 5.0, 2.0]), 5, np.random.default_rng(1))
    for step in range(5):
        there = np.setdiff1d(np.arange(5), drawn.drawn[:step])
        assert drawn.chances[step, there].sum() == pytest.approx(1.0)
        assert drawn.chances[step, there].min() >= UNIFORM / len(there) - 1e-12


def test_the_first_item_is_drawn_as_often_as_it_says():
    rng, information = np.random.default_rng(2), np.array([0.0, 1.0, 1.0, 2.0, 4.0])
    firsts = [draw(LEFT, information, 1, rng) for _ in range(8000)]
    counts = np.bincount([int(one.drawn[0]) for one in firsts], minlength=5)
    wanted = 8000 * firsts[0].chances[0]
    assert ((counts - wanted) ** 2 / wanted).sum() < 18.5  # 0.1 % point of chi-squared, 4 degrees of freedom


def test_no_information_is_a_uniform_order():
    drawn = draw(LEFT, np.zeros(5), 3, np.random.default_rng(3))
    assert drawn.chances[1] == pytest.approx(0.25)


def test_a_part_is_what_was_left_and_drawn_then():
    drawn = draw(LEFT, np.arange(1.0, 6.0), 5, np.random.default_rng(4))
    part = drawn.part(2, 4)
    assert part.places.tolist() == drawn.places[2:4].tolist()
    assert sorted(part.left) == sorted(drawn.places[2:])
    for step in range(2):
        place = part.places[step]
        whole = int(np.flatnonzero(place == LEFT)[0])
        assert part.chances[step, part.drawn[step]] == drawn.chances[2 + step, whole]


def test_the_same_seed_gives_the_same_order():
    first, second = (draw(LEFT, np.ones(5), 5, np.random.default_rng(9)).places.tolist() for _ in range(2))
    assert first == second
