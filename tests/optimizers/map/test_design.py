"""The first points."""

import numpy as np
import pytest
from scipy.stats import qmc

from evomerge.optimizers.map.design import Filler, corners, default_size
from evomerge.recipes import Dimension
from tests.optimizers.map.landscapes import weights


def test_corners_are_base_experts_average_and_centre():
    drop = Dimension("drop_rate.e0", "drop_rate", "e0", None, 0.0, 0.9)
    found = corners([*weights(2), drop])
    expected = [(0, 0, 0), (2 / 3, 0, 0), (0, 2 / 3, 0), (1 / 3, 1 / 3, 0), (0.5, 0.5, 0.5)]
    assert np.array(found) == pytest.approx(np.array(expected))


def test_corners_that_lie_out_of_bounds_or_mean_nothing_are_left_out():
    half = [Dimension(f"weight.e{i}", "weight", f"e{i}", None, 0.0, 0.9) for i in range(2)]
    assert len(corners(half)) == 3  # no expert alone
    assert corners([Dimension("t", "t")]) == [(0.5,)]


def test_weights_of_layers_move_together():
    found = corners(weights(2, 2))
    assert found[1] == pytest.approx((2 / 3, 2 / 3, 0, 0))


@pytest.mark.parametrize(("dimensions", "size"), [(1, 4), (2, 9), (3, 14), (8, 16), (18, 26), (100, 40)])
def test_sizes(dimensions, size):
    assert default_size(dimensions) == size


def test_filling_points_keep_away_from_known_ones():
    filler, known = Filler(2, 0), [(0.5, 0.5)]
    for _ in range(31):
        known.append(filler.next(known))
    gaps = np.linalg.norm(np.array(known)[:, None] - np.array(known), axis=2) + 9 * np.eye(32)
    assert gaps.min() > 0.05
    assert qmc.discrepancy(np.array(known)) < 0.01
