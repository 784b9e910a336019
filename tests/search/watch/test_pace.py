"""Time left: exact where nothing varies, and a range that holds what it says where something does."""

import numpy as np
import pytest

from evomerge.search.watch.pace import Range, clock_text, range_text, time_left


def test_equal_costs_give_the_exact_time():
    assert time_left([2.0] * 5, [10] * 5, 100, 10) == Range(20.0, 20.0, 20.0)


def test_costs_are_by_item():
    left = time_left([2.0, 4.0, 8.0], [10, 20, 40], 35, 1)
    assert (left.low, left.expected, left.high) == pytest.approx((7.0, 7.0, 7.0))


@pytest.mark.parametrize(("seconds", "items"), [([], []), ([1.0, 1.0], [5, 5]), ([1.0] * 4, [0] * 4)])
def test_too_little_is_known(seconds, items):
    assert time_left(seconds, items, 10, 1) is None


def test_time_that_failures_took_counts():
    assert time_left([1.0, 1.0, 1.0, 1.0], [10, 10, 10, 0], 30, 3).expected == pytest.approx(4.0)


@pytest.mark.parametrize("models", [1, 20, 200])
def test_the_range_holds_in_about_95_of_100_searches(models):
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        seen = random.gamma(4.0, 1.0, size=30)
        rest = random.gamma(4.0, 1.0, size=models).sum()
        left = time_left(list(seen), [10] * 30, 10 * models, models)
        inside += left.low <= rest <= left.high
    assert 0.91 <= inside / 400 <= 0.99


def test_a_range_runs_down_to_zero():
    assert Range(5.0, 10.0, 20.0).after(12.0) == Range(0.0, 0.0, 8.0)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (245, "4:05"), (7445, "2:04:05")])
def test_clock_text(seconds, text):
    assert clock_text(seconds) == text


def test_range_text():
    assert range_text(Range(200, 245, 330)) == "4:05 left (3:20 to 5:30)"
