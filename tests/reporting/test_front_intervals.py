"""Uncertain fronts against closed forms and simulation."""

import numpy as np
import pytest

from evomerge.reporting.front import hypervolume
from evomerge.reporting.front_intervals import hypervolume_difference, hypervolume_interval, membership
from evomerge.reporting.statistics import mean_normalised

ANCHORS = {"a": (0.2, 0.7), "b": (0.4, 0.9)}


def answers(rng, true, items):
    """0 and 1 for members of true scores `true` on items that are as hard for all."""
    return (rng.random(items) + 0.3 * rng.standard_normal((len(true), items)) < np.array(true)[:, None]).astype(float)


def constant(*members):
    """Two tasks on which every item has the same score."""
    return {task: np.repeat([[m[i]] for m in members], 10, axis=1) for i, task in enumerate(ANCHORS)}


def test_without_noise_it_is_the_hypervolume():
    found = hypervolume_interval(constant((0.7, 0.65), (0.45, 0.9), (0.3, 0.5)), ANCHORS)
    expected = hypervolume([[1.0, 0.5], [0.5, 1.0]], [0, 0])
    assert (found.mean, found.low, found.high) == pytest.approx((expected,) * 3)
    assert found.error == pytest.approx(0.0)
    assert hypervolume_interval(constant((0.7, 0.9)), ANCHORS).mean == pytest.approx(1.0)
    assert hypervolume_interval(constant((0.1, 0.9)), ANCHORS).mean == 0.0, "below the base on one task"


def test_of_one_member_and_task_it_is_its_score():
    scores = answers(np.random.default_rng(0), [0.6], 200)
    found = hypervolume_interval({"a": scores}, ANCHORS, resamples=4000)
    expected = mean_normalised({"a": scores[0]}, ANCHORS)
    assert found.mean == pytest.approx(expected.mean, abs=0.01)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


def test_an_expert_no_better_than_the_base_gives_no_scale():
    found = hypervolume_interval({"a": [[0.5] * 4]}, {"a": (0.3, 0.3)})
    assert found.mean == pytest.approx(0.2)


def test_members_below_a_floor_cover_nothing():
    scores = constant((0.7, 0.65), (0.45, 0.9))
    assert hypervolume_interval(scores, ANCHORS, floors={"a": 0.5}).mean == pytest.approx(0.5)
    assert hypervolume_interval(scores, ANCHORS, floors={"a": 0.5, "b": 0.7}).mean == 0.0
    assert membership(scores, floors={"a": 0.5}) == [1.0, 0.0]


def test_membership():
    rng = np.random.default_rng(1)
    scores = {"a": answers(rng, [0.7, 0.5, 0.3, 0.5], 100), "b": answers(rng, [0.3, 0.5, 0.7, 0.2], 100)}
    shares = membership(scores)
    assert min(shares[:3]) > 0.95
    assert 0.0 < shares[3] < 0.7
    assert membership(constant((0.5, 0.5), (0.5, 0.5), (0.5, 0.4))) == [1.0, 1.0, 0.0]


def test_a_front_and_itself_do_not_differ():
    rng = np.random.default_rng(2)
    scores = {task: answers(rng, [0.5, 0.6], 80) for task in ANCHORS}
    same = hypervolume_difference(scores, scores, ANCHORS)
    assert (same.mean, same.low, same.high, same.p) == (0.0, 0.0, 0.0, 1.0)


def test_differences_are_paired():
    """A front that is right on ten more items of the same is told from the other, which the intervals alone cannot."""
    rng = np.random.default_rng(3)
    first = {task: answers(rng, [0.5, 0.6], 100) for task in ANCHORS}
    second = {task: scores.copy() for task, scores in first.items()}
    for scores in second.values():
        for row in scores:
            row[np.flatnonzero(row == 0)[:10]] = 1.0
    gain = hypervolume_difference(second, first, ANCHORS)
    assert gain.low > 0.0
    assert gain.p < 0.02
    assert hypervolume_interval(second, ANCHORS).low < hypervolume_interval(first, ANCHORS).high
    loss = hypervolume_difference(first, second, ANCHORS)
    assert (loss.mean, loss.low, loss.high) == pytest.approx((-gain.mean, -gain.high, -gain.low))


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="same members"):
        hypervolume_interval({"a": [[1.0, 0.0]], "b": [[1.0], [0.0]]}, ANCHORS)
    with pytest.raises(ValueError, match="same members"):
        hypervolume_interval({}, ANCHORS)
    for bad in ([], [[]], [1.0], [[float("nan")]]):
        with pytest.raises(ValueError, match="members, items"):
            hypervolume_interval({"a": bad}, ANCHORS)
    with pytest.raises(ValueError, match="same items"):
        hypervolume_difference({"a": [[1.0, 0.0]]}, {"a": [[1.0]]}, ANCHORS)


def test_the_seed_is_all_there_is_of_chance():
    rng = np.random.default_rng(4)
    scores = {task: answers(rng, [0.5, 0.6], 40) for task in ANCHORS}
    before = repr(np.random.get_state())
    assert hypervolume_interval(scores, ANCHORS, seed=1) == hypervolume_interval(scores, ANCHORS, seed=1)
    assert hypervolume_interval(scores, ANCHORS, seed=1) != hypervolume_interval(scores, ANCHORS, seed=2)
    assert repr(np.random.get_state()) == before


def errors_and_coverage(searches, items, true):
    rng = np.random.default_rng(5)
    # the true score of `answers` at p is not p: measured once
    reach = {p: float(answers(rng, [p], 400_000).mean()) for member in true for p in member}
    points = [[(reach[p] - ANCHORS[t][0]) / 0.5 for p, t in zip(member, ANCHORS, strict=True)] for member in true]
    truth, plain, corrected, covered = hypervolume(points, [0, 0]), [], [], []
    for search in range(searches):
        scores = {task: answers(rng, [m[i] for m in true], items) for i, task in enumerate(ANCHORS)}
        seen = [
            [(s.mean() - ANCHORS[t][0]) / 0.5 for s, t in zip(m, ANCHORS, strict=True)]
            for m in zip(*scores.values(), strict=True)
        ]
        found = hypervolume_interval(scores, ANCHORS, seed=search, resamples=300)
        plain.append(hypervolume(seen, [0, 0]) - truth)
        corrected.append(found.mean - truth)
        covered.append(found.low <= truth <= found.high)
    return np.array(plain), np.array(corrected), np.mean(covered)


NEAR = [(0.4, 0.75), (0.45, 0.73), (0.5, 0.7), (0.55, 0.67), (0.6, 0.62), (0.52, 0.68)]


def test_luck_among_near_members_is_taken_out():
    plain, corrected, covered = errors_and_coverage(40, 100, NEAR)
    assert 0.02 < (plain - corrected).mean() < 0.05, "what 200 searches find: 0.034 ± 0.005 too much"
    assert covered >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("items", [100, 300])
def test_intervals_hold_the_truth(items):
    _, corrected, covered = errors_and_coverage(600, items, NEAR)
    assert 0.91 <= covered <= 0.99
    assert abs(corrected.mean()) < 3 * corrected.std() / np.sqrt(600)
