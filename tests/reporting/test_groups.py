"""Groups of runs: intervals that cover other seeds and other items, on data of which the truth is known."""

import math

import numpy as np
import pytest

from evomerge.reporting.groups import group_difference, group_mean
from evomerge.reporting.statistics import mean_with_error

ANCHORS = {"a": (0.0, 1.0), "b": (0.0, 1.0)}


def draw(rng, truth, *, seeds, items, by_seed, by_item, rest, item_part=None):
    """Runs of a group: truth + seed's part + item's part + rest, the same for both tasks."""
    item_part = rng.normal(0, by_item, (2, items)) if item_part is None else item_part
    seed_part = rng.normal(0, by_seed, seeds)
    return [
        {task: truth + seed_part[s] + item_part[t] + rng.normal(0, rest, items) for t, task in enumerate(ANCHORS)}
        for s in range(seeds)
    ], item_part


@pytest.mark.parametrize(
    ("by_seed", "by_item", "rest"),
    [(0.1, 0.3, 0.2), (0.0, 0.4, 0.0), (0.2, 0.0, 0.1), (0.3, 0.0, 0.0), (0.0, 0.0, 0.3)],
)
@pytest.mark.parametrize("seeds", [2, 5])
def test_intervals_cover_the_truth_at_least_as_often_as_they_say(seeds, by_seed, by_item, rest):
    rng = np.random.default_rng(1)
    covered, apart, rejected, times = 0, 0, 0, 200
    for _ in range(times):
        shape = {"items": 40, "by_seed": by_seed, "by_item": by_item, "rest": rest}
        first, items = draw(rng, 0.6, seeds=seeds, **shape)
        second, _ = draw(rng, 0.6, seeds=3, **shape, item_part=items)
        mean = group_mean(first, ANCHORS)
        difference = group_difference(first, second, ANCHORS)
        covered += mean.low <= 0.6 <= mean.high
        apart += difference.low <= 0.0 <= difference.high
        rejected += difference.p < 0.05
    # three standard errors of a share of 0.95 in so many tries
    assert covered / times > 0.95 - 3 * math.sqrt(0.95 * 0.05 / times)
    assert apart / times > 0.95 - 3 * math.sqrt(0.95 * 0.05 / times)
    assert rejected == times - apart, "interval and p say the same"


def test_seeds_count_that_the_items_alone_would_not_show():
    """Runs that are far apart: the items of each are all alike, and an interval of items alone would have no width."""
    runs = [{"a": [value] * 30} for value in (0.2, 0.5, 0.8)]
    found = group_mean(runs, ANCHORS)
    assert found.mean == pytest.approx(0.5)
    assert found.error == pytest.approx(np.std([0.2, 0.5, 0.8], ddof=1) / math.sqrt(3))
    assert found.high - found.mean == pytest.approx(4.302653 * found.error)  # Student, two degrees of freedom


def test_a_single_run_has_the_error_of_its_items():
    scores = np.random.default_rng(0).normal(0.4, 0.2, 50)
    found = group_mean([{"a": scores}], {"a": (0.1, 0.6)})
    mean, error = mean_with_error(scores)
    assert found.mean == pytest.approx((mean - 0.1) / 0.5)
    assert found.error == pytest.approx(error / 0.5)
    alone = group_mean([{"a": [0.5]}], ANCHORS)
    assert (alone.low, alone.high) == (-math.inf, math.inf)


def test_weights_and_scales():
    runs = [{"a": [0.2, 0.4], "b": [5.0, 7.0]}, {"a": [0.4, 0.6], "b": [6.0, 8.0]}]
    found = group_mean(runs, {"a": (0.0, 2.0), "b": (4.0, 4.0)}, weights={"a": 3.0, "b": 1.0})
    assert found.mean == pytest.approx((3 * 0.4 / 2 + 6.5) / 4)  # a scale without a width is left as it is


def test_items_are_paired_and_seeds_are_not():
    rng = np.random.default_rng(2)
    hard = rng.normal(0, 1.0, 60)  # items differ far more than models do
    first = [{"a": hard + 0.1 + rng.normal(0, 0.02, 60)} for _ in range(3)]
    second = [{"a": hard + rng.normal(0, 0.02, 60)} for _ in range(3)]
    found = group_difference(first, second, ANCHORS)
    assert found.mean == pytest.approx(0.1, abs=0.01)
    assert found.p < 0.001
    assert group_mean(first, ANCHORS).error > 10 * found.error
    mixed = group_difference(first, second[::-1], ANCHORS)
    assert (mixed.low, mixed.p) == pytest.approx((found.low, found.p))
    assert group_difference(first, first, ANCHORS).mean == 0.0
    equal = [{"a": [1.0, 1.0]}]
    assert group_difference(equal, equal, ANCHORS).p == 1.0


@pytest.mark.parametrize(
    "runs", [[], [{"a": []}], [{"a": [0.1]}, {"a": [0.1, 0.2]}], [{"a": [0.1]}, {"b": [0.1]}], [{"a": [math.nan, 1.0]}]]
)
def test_what_is_no_group(runs):
    with pytest.raises(ValueError, match="group|scores"):
        group_mean(runs, ANCHORS)
