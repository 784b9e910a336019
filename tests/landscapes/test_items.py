"""Items: binomial at every point, alike for neighbours, frozen."""

import numpy as np
import pytest

from evomerge.landscapes import Thresholds, Traits

HERE, NEAR, FAR = np.full(6, 0.3), np.full(6, 0.35), np.full(6, 0.95)


def thresholds(items=20_000, *, seed=0, **traits):
    return Thresholds(items, 6, seed=[seed], traits=Traits(**traits))


@pytest.mark.parametrize("traits", [{}, {"difficulty": 0.0, "taste": 1.0, "chance": 0.0}])
def test_they_are_standard_normal_at_every_point(traits):
    items = thresholds(**traits)
    for point in (HERE, NEAR, FAR, np.zeros(6)):
        found = items(point)
        assert abs(found.mean()) < 4 / np.sqrt(20_000)
        assert abs(found.std() - 1) < 4 / np.sqrt(40_000)


@pytest.mark.parametrize("chance", [0.0, 0.02, 0.3, 0.9, 1.0])
def test_as_many_items_are_solved_as_the_probability_says(chance):
    solved = thresholds().solved(HERE, chance)
    assert set(solved) <= {0.0, 1.0}
    assert abs(solved.mean() - chance) <= 4 * np.sqrt(chance * (1 - chance) / 20_000)


def test_items_may_have_probabilities_of_their_own():
    solved = thresholds(4).solved(HERE, np.array([0.0, 1.0, 0.0, 1.0]))
    assert solved.tolist() == [0, 1, 0, 1]


def test_a_better_candidate_at_the_same_place_solves_all_that_a_worse_one_does():
    items = thresholds()
    assert (items.solved(HERE, 0.6) >= items.solved(HERE, 0.5)).all()


def test_the_same_seed_and_point_give_the_same_bits():
    assert (thresholds()(HERE) == thresholds()(HERE)).all()
    assert (thresholds()(HERE) != thresholds(seed=1)(HERE)).all()


def test_neighbours_solve_the_same_items_and_distant_candidates_others():
    items = thresholds()
    here = items.solved(HERE, 0.5)
    near, far = ((items.solved(point, 0.5) != here).mean() for point in (NEAR, FAR))
    assert 0.01 < near < 0.08
    assert 0.2 < far < 0.4


def test_chance_belongs_to_the_very_point():
    items = thresholds(difficulty=0.0, taste=0.0, chance=1.0)
    moved = HERE.copy()
    moved[0] = np.nextafter(moved[0], 1)
    assert abs(np.corrcoef(items(HERE), items(moved))[0, 1]) < 0.05


def test_difficulty_alone_is_the_same_everywhere():
    items = thresholds(difficulty=1.0, taste=0.0, chance=0.0)
    assert (items(HERE) == items(FAR)).all()


@pytest.mark.parametrize("traits", [{"difficulty": 0.5}, {"length": 0.0}, {"difficulty": -0.4, "taste": 1.39}])
def test_shares_must_make_a_whole(traits):
    with pytest.raises(ValueError, match="shares"):
        Traits(**traits)
