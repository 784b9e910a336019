"""Shrinkage against closed forms and simulation."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.reporting.shrinkage import FEWEST, item_noise, shrink


def test_fewer_than_four_are_left_as_they_are():
    shrunk = shrink([0.1, 0.9, 0.5], [0.2, 0.3, 0.0])
    assert shrunk.means == (0.1, 0.9, 0.5)
    assert shrunk.errors == pytest.approx((0.2, 0.3, 0.0))
    assert len(shrink([0.5] * FEWEST, [0.1] * FEWEST).means) == FEWEST


def test_by_hand():
    """Five scores about 3, distances 1 and 4 above: the variance is 17 / 2.5, the centre counting half, less 1."""
    shrunk = shrink([-1.0, 2.0, 3.0, 4.0, 7.0], [1.0] * 5)
    assert shrunk.centre == 3.0
    assert shrunk.spread == pytest.approx(math.sqrt(17 / 2.5 - 1))
    share = 2 / 4 * 1 / (17 / 2.5)
    assert shrunk.means == pytest.approx([3 + (1 - share) * d for d in (-4, -1, 0, 1, 4)])
    own, of_centre = 1 - share, share**2 * (17 / 2.5) / 5
    assert shrunk.errors[2] == pytest.approx(math.sqrt(own + of_centre))
    assert shrunk.errors[4] == pytest.approx(math.sqrt(own + of_centre + 2 / 2 * share**2 * 16))


def test_without_spread_all_are_nearly_the_centre_and_without_error_none_moves():
    noise = np.random.default_rng(0).normal(0, 0.01, 50)
    all_noise = shrink(noise.tolist(), [1.0] * 50)
    assert all_noise.spread == 0.0
    assert np.abs(np.array(all_noise.means) - all_noise.centre).max() < 0.05 * np.abs(noise).max() + 1e-12
    exact = [0.3, 0.1, 0.7, 0.2, 0.2]
    assert shrink(exact, [0.0] * 5).means == pytest.approx(exact)
    equal = shrink([0.4] * 6, [0.0] * 6)
    assert (equal.means, equal.spread) == ((0.4,) * 6, 0.0)
    mixed = shrink([0.1, 0.2, 0.3, 0.4, 0.9], [0.1, 0.1, 0.1, 0.1, 0.0])
    assert mixed.means[4] == 0.9
    assert mixed.means[3] < 0.4


def test_the_larger_the_error_the_farther_it_moves():
    means = [0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 0.8]
    shrunk = shrink(means, [0.1] * 5 + [0.1, 0.4])
    assert shrunk.means[6] < shrunk.means[5] < 0.8


def test_broken_candidates_do_not_spare_the_best():
    rng = np.random.default_rng(3)
    sound = rng.normal(0.5, math.hypot(0.05, 0.05), 100)
    broken = np.concatenate([sound, rng.normal(0.02, 0.01, 15)])
    alone, beside = shrink(sound.tolist(), [0.05] * 100), shrink(broken.tolist(), [0.05] * 115)
    best = int(sound.argmax())
    assert beside.means[best] == pytest.approx(alone.means[best], abs=0.012)
    assert sound[best] - beside.means[best] > 0.05


@pytest.mark.parametrize(("n", "spread"), [(8, 1.0), (50, 0.5), (200, 0.3)])
def test_the_shrunk_maximum_is_unbiased_and_the_plain_one_is_not(n, spread):
    rng = np.random.default_rng(n)
    plain, shrunk, covered = [], [], []
    for _ in range(400):
        truth = rng.normal(2.0, spread, n)
        errors = rng.choice([0.3, 0.6], n)
        seen = rng.normal(truth, errors)
        found = shrink(seen.tolist(), errors.tolist())
        best = int(np.argmax(found.means))
        plain.append(seen.max() - truth[int(seen.argmax())])
        shrunk.append(found.means[best] - truth[best])
        covered.append(abs(shrunk[-1]) < 1.96 * found.errors[best])
    # the spread is estimated, which leaves a little
    assert abs(np.mean(shrunk)) < 3 * np.std(shrunk) / 20 + 0.1 * np.mean(plain)
    assert np.mean(plain) > 0.25
    assert 0.9 < np.mean(covered) <= 1.0


@pytest.mark.parametrize(
    ("means", "errors"),
    [([], []), ([1.0], [1.0, 2.0]), ([math.nan] * 4, [1.0] * 4), ([1.0] * 4, [math.inf] * 4), ([1.0] * 4, [-1.0] * 4)],
)
def test_what_is_no_score(means, errors):
    with pytest.raises(ValueError, match="score|negative"):
        shrink(means, errors)


SCORES = st.lists(st.tuples(st.integers(-20, 20), st.integers(0, 10)), min_size=1, max_size=12)


@settings(max_examples=60)
@given(SCORES)
def test_between_the_score_and_the_centre_in_any_unit(scores):
    means, errors = [m for m, _ in scores], [e for _, e in scores]
    found = shrink(means, errors)
    for before, after, error in zip(means, found.means, found.errors, strict=True):
        low, high = sorted((before, found.centre))
        assert low - 1e-9 <= after <= high + 1e-9
        assert error >= 0
    other = shrink([m / 64 for m in means], [e / 64 for e in errors])
    assert other.means == pytest.approx([m / 64 for m in found.means], abs=1e-6)
    assert other.errors == pytest.approx([e / 64 for e in found.errors], abs=1e-6)


def test_noise_of_items_by_hand():
    additive = np.add.outer([0.0, 1.0, 2.0], [0.0, 3.0, 6.0, 9.0])
    noise = item_noise(additive)
    assert noise.own == pytest.approx(0.0, abs=1e-12)
    assert noise.common == pytest.approx(np.std([0, 3, 6, 9], ddof=1))
    checkered = item_noise([[1.0, 0.0], [0.0, 1.0]])
    assert (checkered.own, checkered.common) == (1.0, 0.0)


def test_noise_of_items_is_found_again():
    rng = np.random.default_rng(0)
    data = rng.normal(0, 2.0, 2000) + rng.normal(0, 1.0, (20, 1)) + rng.normal(0, 0.5, (20, 2000))
    noise = item_noise(data)
    assert noise.own == pytest.approx(0.5, rel=0.02)
    assert noise.common == pytest.approx(2.0, rel=0.06)


@pytest.mark.parametrize("scores", [[[1.0, 2.0]], [[1.0], [2.0]], [1.0], [[1.0, math.nan], [0.0, 1.0]]])
def test_noise_needs_two_of_each(scores):
    with pytest.raises(ValueError, match="two candidates and two items"):
        item_noise(scores)
