"""Points of the cube: equal recipes, news, and the Sobol sequence by index."""

import numpy as np
import pytest
from scipy.stats import qmc

from evomerge.optimizers.points import is_news, method_of, plays, sobol_point, tidy
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import box


def test_choices_are_moved_to_the_middle_of_their_parts():
    space = box(1, ("a", "b", "c", "d"))
    assert tidy(space, (0.99, 0.99)) == (0.875, 0.99)
    assert tidy(space, (1.0, 1.0)) == (0.875, 1.0)
    assert space[0].value(tidy(space, (0.25, 0.0))[0]) == space[0].value(0.25)


def test_coordinates_that_play_no_part_are_moved_to_the_middle():
    space = [*box(1, ("linear", "dare")), Dimension("drop_rate", "drop_rate", methods=("dare",))]
    assert tidy(space, (0.3, 0.4, 0.9)) == (0.25, 0.4, 0.5)
    assert tidy(space, (0.6, 0.4, 0.9)) == (0.75, 0.4, 0.9)
    assert method_of(space, (0.6, 0.4, 0.9)) == "dare"
    assert method_of(box(2), (0.6, 0.4)) is None
    assert plays(space[2], None)


def test_news_are_away_in_one_coordinate_at_least():
    assert is_news((0.5, 0.5), [])
    assert not is_news((0.5, 0.5), [(0.1, 0.1), (0.505, 0.495)])
    assert is_news((0.5, 0.5), [(0.5, 0.52)])


@pytest.mark.parametrize("index", [0, 1, 6])
def test_a_sobol_point_is_that_of_the_sequence(index):
    sequence = qmc.Sobol(5, scramble=True, seed=np.random.default_rng(3)).random(8)
    assert sobol_point(5, index, seed=3) == tuple(sequence[index])
