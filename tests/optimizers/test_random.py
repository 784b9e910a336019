"""Random search is uniform."""

import numpy as np
from scipy import stats

from evomerge.optimizers import Problem, RandomSearch
from tests.optimizers.landscapes import box, goals


def test_it_is_uniform_on_every_axis_and_axes_are_independent():
    points = np.array([p.vector for p in RandomSearch(Problem(box(3), goals(), seed=0)).ask(4000)])
    for axis in points.T:
        assert stats.kstest(axis, "uniform").pvalue > 0.001
    assert np.abs(np.corrcoef(points.T)[np.triu_indices(3, 1)]).max() < 0.06
