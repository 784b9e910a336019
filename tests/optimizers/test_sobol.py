"""Sobol points fill the cube more evenly than random ones."""

import numpy as np
from scipy.stats import qmc

from evomerge.optimizers import Problem, RandomSearch, SobolSearch
from tests.optimizers.landscapes import box, goals


def test_it_is_more_even_than_random_search():
    def discrepancy(kind):
        return qmc.discrepancy(np.array([p.vector for p in kind(Problem(box(5), goals(), seed=0)).ask(128)]))

    assert discrepancy(SobolSearch) < 0.3 * discrepancy(RandomSearch)


def test_every_half_of_every_axis_gets_half_of_the_points():
    points = np.array([p.vector for p in SobolSearch(Problem(box(7), goals(), seed=4)).ask(64)])
    assert ((points < 0.5).sum(axis=0) == 32).all()
