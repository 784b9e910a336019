"""Statistics against closed forms, scipy, published figures and simulation."""

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from evomerge.reporting.statistics import (
    Interval,
    bootstrap_interval,
    flip_p,
    flip_p_resampled,
    holm,
    mcnemar_p,
    mean_interval,
    mean_normalised,
    mean_with_error,
    normalised_difference,
    paired_difference,
    pooled_difference,
    wilson_interval,
)

SIMULATIONS = 2000
ANCHORS = {"x": (0.2, 0.8), "y": (0.4, 0.9), "z": (0.5, 0.5)}  # z: base and expert are equal


def paired(rng, n, p, disagree):
    """Two sets of n scores 0 and 1 of the same mean, on which the models are drawn anew with probability `disagree`."""
    common, again = rng.random(n) < p, rng.random(n) < disagree
    return tuple(np.where(again, rng.random(n) < p, common).astype(float) for _ in range(2))


# ---- one model -----------------------------------------------------------------------------------------------------


def test_mean_and_error_are_the_sample_ones():
    scores = [0.0, 1.0, 1.0, 0.5, 0.25]
    assert mean_with_error(scores) == pytest.approx((np.mean(scores), stats.sem(scores)))
    binary = [1] * 30 + [0] * 70
    assert mean_with_error(binary)[1] == pytest.approx(math.sqrt(0.3 * 0.7 / 99))


def test_a_single_item_and_equal_items():
    assert mean_with_error([1]) == (1.0, 0.5)
    assert mean_with_error([3.0]) == (3.0, math.inf)
    assert mean_with_error([0.5] * 4) == (0.5, 0.0)
    assert mean_interval([0.3]) == Interval(0.3, 0.5, 0.0, 1.0)
    assert mean_interval([-2.0]) == Interval(-2.0, math.inf, -math.inf, math.inf)
    ones = mean_interval([1] * 10)
    assert (ones.error, ones.high) == (0.0, 1.0)
    assert ones.low == pytest.approx(1 / (1 + 1.959964**2 / 10))  # n / (n + z^2)


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 20), (7, 20), (20, 20), (531, 1319)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_is_scipys(successes, n, level):
    expected = stats.binomtest(successes, n).proportion_ci(level, method="wilson")
    ours = wilson_interval(successes, n, level=level)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0.0 <= ours.low <= ours.mean <= ours.high <= 1.0
    scores = [1.0] * successes + [0.0] * (n - successes)
    assert mean_interval(scores, level=level) == ours


def test_general_scores_have_students_interval():
    scores = np.random.default_rng(0).normal(3, 2, 40)
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    ours = mean_interval(scores)
    assert (ours.low, ours.high) == pytest.approx(tuple(expected))
    assert mean_interval([0.9, 1.0, 0.95]).high == 1.0  # cut


@pytest.mark.parametrize("bad", [[], [[1.0]], [0.5, math.nan], [math.inf, 0.5], 0.5])
def test_bad_scores_are_refused(bad):
    for function in (
        mean_with_error,
        mean_interval,
        lambda s: paired_difference(s, s),
        lambda s: flip_p({"x": s}, {"x": 1}),
    ):
        with pytest.raises(ValueError, match="score"):
            function(bad)


@pytest.mark.parametrize(("successes", "n"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts_are_refused(successes, n):
    with pytest.raises(ValueError, match="successes"):
        wilson_interval(successes, n)


@pytest.mark.parametrize(("p", "n"), [(0.1, 200), (0.5, 100), (0.9, 500)])
def test_wilson_covers(p, n):
    rng = np.random.default_rng(1)
    covered = sum(
        interval.low <= p <= interval.high
        for interval in (wilson_interval(int(k), n) for k in rng.binomial(n, p, SIMULATIONS))
    )
    assert 0.93 <= covered / SIMULATIONS <= 0.97


def test_students_interval_covers():
    rng = np.random.default_rng(2)
    intervals = [mean_interval(rng.beta(2, 3, 50)) for _ in range(SIMULATIONS)]
    assert 0.93 <= np.mean([i.low <= 0.4 <= i.high for i in intervals]) <= 0.97


# ---- two models ----------------------------------------------------------------------------------------------------


def test_a_paired_difference_by_hand():
    """20 items: first alone right on 6, second alone on 2, both on 7, none on 5."""
    first = [1] * 6 + [0] * 2 + [1] * 7 + [0] * 5
    second = [0] * 6 + [1] * 2 + [1] * 7 + [0] * 5
    d = paired_difference(first, second)
    assert d.mean == pytest.approx(0.2)
    assert d.error == pytest.approx(math.sqrt((8 - 20 * 0.04) / 19 / 20))
    assert d.p == pytest.approx(2 * (1 + 8 + 28) / 256)
    half = 1.959964 * math.sqrt((10 / 22 - (4 / 22) ** 2) / 22)
    assert (d.low, d.high) == pytest.approx((4 / 22 - half, 4 / 22 + half), abs=1e-6)
    mirrored = paired_difference(second, first)
    assert (mirrored.mean, mirrored.low, mirrored.high) == pytest.approx((-d.mean, -d.high, -d.low))
    assert mirrored.p == d.p


def test_mcnemar_is_scipys_sign_test():
    for wins, losses in itertools.product(range(12), repeat=2):
        if wins + losses:
            assert mcnemar_p(wins, losses) == pytest.approx(stats.binomtest(wins, wins + losses).pvalue)
    assert mcnemar_p(0, 0) == 1.0


def test_no_item_differs():
    d = paired_difference([1, 0, 1, 0], [1, 0, 1, 0])
    assert (d.mean, d.error, d.p) == (0.0, 0.0, 1.0)
    assert d.low < 0 < d.high  # four equal answers do not prove that the models are the same
    same = [0.5, 0.25, 0.75]
    assert paired_difference(same, same).p == 1.0


def test_every_item_differs_and_one_item():
    d = paired_difference([1] * 10, [0] * 10)
    assert (d.mean, d.high, d.p) == (1.0, 1.0, 2 / 1024)
    assert d.low > 0.5
    one = paired_difference([1], [0])
    assert (one.mean, one.low, one.high, one.p) == (1.0, -1.0, 1.0, 1.0)
    assert paired_difference([3.5], [0.0]).error == math.inf


def test_lengths_must_agree():
    with pytest.raises(ValueError, match="2 and 3 items"):
        paired_difference([1, 0], [1, 0, 1])


def test_general_differences_have_students_interval():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1, 1, 60), rng.normal(0.7, 1, 60)
    d, expected = paired_difference(a, b), stats.ttest_rel(a, b)
    assert (d.low, d.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert d.p == pytest.approx(expected.pvalue, abs=0.02)
    assert d.p == pytest.approx(flip_p_resampled(a - b, seed=0), abs=0.02)


def test_the_flip_test_on_binary_scores_is_mcnemars_asymptotic_one():
    d = [1] * 31 + [-1] * 14 + [0] * 55
    assert flip_p({"x": d}, {"x": 2.5}) == pytest.approx(stats.chi2.sf((31 - 14) ** 2 / 45, 1))
    assert flip_p({"x": d, "y": [0, 0]}, {"x": 1, "y": 1}) == pytest.approx(stats.chi2.sf((31 - 14) ** 2 / 45, 1))
    assert flip_p({"x": [0, 0]}, {"x": 1}) == 1.0


def test_resampled_flips_are_exact_for_few_items_and_agree_with_scipy():
    assert flip_p_resampled([1, 1, 1, 1, -1, 0, 0], seed=0) == pytest.approx(mcnemar_p(4, 1))
    assert flip_p_resampled([0.1, 0.2, 0.3], seed=0) == pytest.approx(2 / 8)
    assert flip_p_resampled([0, 0], seed=0) == 1.0
    d = np.random.default_rng(3).normal(0.3, 1, 40)
    expected = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=20_000, rng=0).pvalue
    assert flip_p_resampled(d, seed=5) == pytest.approx(expected, abs=0.015)
    assert flip_p_resampled(d, seed=5) == flip_p_resampled(d, seed=5)
    assert flip_p_resampled(np.ones(40), seed=0) == 1 / 10_000


def test_bootstrap_agrees_with_student_and_is_repeatable():
    values = np.random.default_rng(0).beta(2, 3, 200)
    ours, expected = bootstrap_interval(values, seed=1), mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx((expected.low, expected.high), abs=0.003)
    assert ours == bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    assert bootstrap_interval([0.5] * 5, seed=0) == Interval(0.5, 0.0, 0.5, 0.5)


@pytest.mark.parametrize(("n", "disagree"), [(100, 0.4), (400, 0.2)])
def test_paired_intervals_cover_and_the_exact_test_keeps_its_level(n, disagree):
    rng = np.random.default_rng(4)
    results = [paired_difference(*paired(rng, n, 0.6, disagree)) for _ in range(SIMULATIONS)]
    assert 0.93 <= np.mean([d.low <= 0 <= d.high for d in results]) <= 0.97
    assert 0.015 <= np.mean([d.p < 0.05 for d in results]) <= 0.06  # exact, so on the safe side


def test_paired_intervals_cover_a_true_difference():
    rng, cells = np.random.default_rng(5), (0.4, 0.25, 0.1, 0.25)  # both, first, second, none
    covered = 0
    for _ in range(SIMULATIONS):
        cell = rng.choice(4, 150, p=cells)
        d = paired_difference(cell <= 1, cell % 2 == 0)
        covered += d.low <= 0.15 <= d.high
    assert 0.93 <= covered / SIMULATIONS <= 0.97


def test_the_general_test_keeps_its_level():
    rng = np.random.default_rng(6)
    p = [paired_difference(*rng.beta(2, 3, (2, 60))).p for _ in range(SIMULATIONS)]
    assert 0.035 <= np.mean(np.array(p) < 0.05) <= 0.065


# ---- several tasks, several runs -----------------------------------------------------------------------------------


def test_mean_normalised_by_hand():
    x, y, z = [1] * 6 + [0] * 4, [1] * 8 + [0] * 2, [1] * 1 + [0] * 3
    mean = mean_normalised({"x": x, "y": y, "z": z}, ANCHORS)
    assert mean.mean == pytest.approx(((0.6 - 0.2) / 0.6 + (0.8 - 0.4) / 0.5 + 0.25) / 3)
    expected = math.sqrt((stats.sem(x) / 0.6) ** 2 + (stats.sem(y) / 0.5) ** 2 + stats.sem(z) ** 2) / 3
    assert mean.error == pytest.approx(expected)
    assert mean.low < mean.mean < mean.high


def test_one_task_between_zero_and_one_is_its_own_mean():
    scores = [1] * 37 + [0] * 63
    assert mean_normalised({"t": scores}, {"t": (0.0, 1.0)}) == mean_interval(scores)
    first, second = [1] * 37 + [0] * 63, [0] * 20 + [1] * 10 + [0] * 70
    assert normalised_difference({"t": (first, second)}, {"t": (0.0, 1.0)}) == paired_difference(first, second)


def test_normalised_difference_is_the_difference_of_the_means():
    rng = np.random.default_rng(7)
    pairs = {task: paired(rng, 80, 0.6, 0.5) for task in ANCHORS}
    d = normalised_difference(pairs, ANCHORS)
    first, second = ({task: pair[i] for task, pair in pairs.items()} for i in range(2))
    assert d.mean == pytest.approx(mean_normalised(first, ANCHORS).mean - mean_normalised(second, ANCHORS).mean)
    parts = [stats.sem(a - b) * f for (a, b), f in zip(pairs.values(), (1 / 0.6, 1 / 0.5, 1.0), strict=True)]
    assert d.error == pytest.approx(math.hypot(*parts) / 3)


def test_tasks_without_anchors_or_without_tasks():
    with pytest.raises(KeyError):
        mean_normalised({"unknown": [1, 0]}, ANCHORS)
    with pytest.raises(ValueError, match="no tasks"):
        mean_normalised({}, ANCHORS)
    with pytest.raises(ValueError, match="no tasks"):
        normalised_difference({}, ANCHORS)


def test_normalised_means_cover_and_their_difference_keeps_its_level():
    rng, means = np.random.default_rng(8), {"x": 0.55, "y": 0.9, "z": 0.3}
    true = ((0.55 - 0.2) / 0.6 + (0.9 - 0.4) / 0.5 + 0.3) / 3
    mean_covered = covered = rejected = 0
    for _ in range(SIMULATIONS):
        pairs = {task: paired(rng, 200, p, 0.3) for task, p in means.items()}
        interval = mean_normalised({task: pair[0] for task, pair in pairs.items()}, ANCHORS)
        mean_covered += interval.low <= true <= interval.high
        d = normalised_difference(pairs, ANCHORS)
        covered += d.low <= 0 <= d.high
        rejected += d.p < 0.05
    assert 0.93 <= mean_covered / SIMULATIONS <= 0.97
    assert 0.93 <= covered / SIMULATIONS <= 0.975
    assert 0.035 <= rejected / SIMULATIONS <= 0.065


def shared_runs(rng, n=100, runs=5):
    """Runs without a true difference, on the same items against the same second model: an item's luck is common."""
    result = [{} for _ in range(runs)]
    for task, p in (("x", 0.6), ("y", 0.8)):
        easy, second = rng.random(n) < 0.7, (rng.random(n) < p).astype(float)
        for run in result:
            run[task] = (np.where(~easy & (rng.random(n) < 0.5), rng.random(n) < p, second).astype(float), second)
    return result


def test_pooled_runs_keep_the_level_where_adding_up_would_not():
    rng = np.random.default_rng(9)
    pooled, added = [], []
    for _ in range(SIMULATIONS // 2):
        runs = shared_runs(rng)
        pooled.append(pooled_difference(runs, ANCHORS).p)
        stacked = {task: tuple(np.concatenate([run[task][i] for run in runs]) for i in range(2)) for task in ("x", "y")}
        added.append(normalised_difference(stacked, ANCHORS).p)
    assert 0.03 <= np.mean(np.array(pooled) < 0.05) <= 0.07
    assert np.mean(np.array(added) < 0.05) > 0.08


def test_pooling_one_run_is_that_run_and_pooling_copies_adds_nothing():
    run = shared_runs(np.random.default_rng(10))[0]
    one = normalised_difference(run, ANCHORS)
    assert pooled_difference([run], ANCHORS) == one
    many = pooled_difference([run] * 4, ANCHORS)
    assert (many.mean, many.error, many.p) == pytest.approx((one.mean, one.error, one.p))


def test_runs_that_do_not_fit_are_refused():
    a, b = ([1, 0, 1], [0, 0, 1]), ([1, 0], [0, 0])
    for runs, message in (([], "no runs"), ([{"x": a}, {"y": a}], "tasks"), ([{"x": a}, {"x": b}], "items of x")):
        with pytest.raises(ValueError, match=message):
            pooled_difference(runs, ANCHORS)


def test_holm_is_the_published_procedure():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


# ---- weights -------------------------------------------------------------------------------------------------------


def test_weights_of_tasks():
    rng = np.random.default_rng(9)
    scores = {task: (rng.random(60) < 0.6).astype(float) for task in "xyz"}
    even = mean_normalised(scores, ANCHORS)
    assert mean_normalised(scores, ANCHORS, weights=dict.fromkeys("xyz", 3.0)) == even
    only = mean_normalised(scores, ANCHORS, weights={"x": 2.0, "y": 0.0, "z": 0.0})
    assert only == mean_normalised({"x": scores["x"]}, ANCHORS)
    alone = {task: mean_normalised({task: values}, ANCHORS) for task, values in scores.items()}
    twice = mean_normalised(scores, ANCHORS, weights={"x": 2.0, "y": 1.0, "z": 1.0})
    assert twice.mean == pytest.approx((2 * alone["x"].mean + alone["y"].mean + alone["z"].mean) / 4)
    pairs = {task: (values, 1 - values) for task, values in scores.items()}
    weighted = normalised_difference(pairs, ANCHORS, weights={"x": 1.0, "y": 0.0, "z": 0.0})
    assert weighted.mean == pytest.approx(normalised_difference({"x": pairs["x"]}, ANCHORS).mean)
    for wrong in ({"x": 0.0, "y": 0.0, "z": 0.0}, {"x": -1.0, "y": 1.0, "z": 1.0}):
        with pytest.raises(ValueError, match="weights"):
            mean_normalised(scores, ANCHORS, weights=wrong)
