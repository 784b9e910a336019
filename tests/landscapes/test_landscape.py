"""What all landscapes share: samples of items, regret and volume, and how races on few items go."""

import numpy as np
import pytest

from evomerge.landscapes import landscape
from evomerge.optimizers import Objective

PROBLEM = landscape("merge-18d-3")
POINT = PROBLEM.baselines["arithmetic 0.6"]


def test_true_means_are_those_of_many_items():
    sample = PROBLEM.sample(10_000, seed=0)
    for point in (POINT, PROBLEM.baselines["base"], PROBLEM.optimum.points[0].tolist()):
        truth = PROBLEM.means([point])[0]
        found = [outcomes.mean() for outcomes in sample.outcomes(point)]
        assert np.abs(found - truth).max() < 4 * 0.5 / np.sqrt(10_000)


def test_scores_of_samples_are_binomial_around_the_truth():
    truth = PROBLEM.means([POINT])[0]
    found = np.array([PROBLEM.sample(64, seed).result(POINT).values for seed in range(200)])
    assert found.mean(axis=0) == pytest.approx(truth, abs=4 * 0.5 / np.sqrt(200 * 64))
    assert found.std(axis=0) == pytest.approx(np.sqrt(truth * (1 - truth) / 64), rel=0.25)


def test_the_same_seed_gives_the_same_items_and_another_one_others():
    first, again, other = (PROBLEM.sample(64, seed).outcomes(POINT) for seed in (0, 0, 1))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert any((a != b).any() for a, b in zip(first, other, strict=True))


def test_a_result_is_of_the_items_asked_for():
    sample = PROBLEM.sample(64, seed=0)
    outcomes = sample.outcomes(POINT)
    full = sample.result(POINT)
    assert full.values == pytest.approx([scores.mean() for scores in outcomes])
    assert full.items == (64, 64, 64)
    assert full.by_item == ()
    part = sample.result(POINT, [[5, 3], [0], [63, 1, 2]], by_item=True)
    assert part.items == (2, 1, 3)
    assert [list(scores) for scores in part.by_item] == [[5, 3], [0], [63, 1, 2]]
    assert part.by_item[0] == {5: outcomes[0][5], 3: outcomes[0][3]}
    assert part.values[2] == pytest.approx(outcomes[2][[63, 1, 2]].mean())


def test_anchors_are_the_scores_of_base_and_best_expert_on_these_items():
    sample = PROBLEM.sample(64, seed=3)
    base = sample.result(PROBLEM.baselines["base"]).values
    experts = [sample.result(PROBLEM.baselines[expert]).values for expert in PROBLEM.experts]
    expected = [Objective(f"task{t}", base[t], max(values[t] for values in experts)) for t in range(3)]
    assert list(sample.objectives) == expected


def test_paired_comparisons_are_sharper_than_separate_ones():
    """Two neighbours on the same items differ far less by chance than on items of their own."""
    a, b = POINT, [u + 0.05 if i < 9 else u for i, u in enumerate(POINT)]
    samples = [PROBLEM.sample(64, seed) for seed in range(100)]
    scores = np.array([[sample.result(p).values[0] for p in (a, b)] for sample in samples])
    paired = (scores[:, 0] - scores[:, 1]).std()
    assert paired < 0.6 * np.sqrt((scores.std(axis=0) ** 2).sum())
    truth = np.subtract(*PROBLEM.means([a, b])[:, 0])
    assert (scores[:, 0] - scores[:, 1]).mean() == pytest.approx(truth, abs=4 * paired / 10)


def test_a_race_on_few_items_tells_the_worse_one_mostly():
    good, bad = PROBLEM.optimum.points[0].tolist(), PROBLEM.baselines["base"]
    right, gaps = 0, []
    for seed in range(50):
        sample = PROBLEM.sample(96, seed)
        order = np.random.default_rng(seed).permutation(96)
        blocks = [[order[i : i + 16]] * 3 for i in range(0, 96, 16)]
        race = [[np.mean(sample.result(p, block).values) for p in (good, bad)] for block in blocks]
        right += race[0][0] > race[0][1]
        gaps.append(np.subtract(*np.mean(race, axis=0)))
        whole = [np.mean(sample.result(p).values) for p in (good, bad)]
        assert np.mean(race, axis=0) == pytest.approx(whole)  # the blocks make up the whole
    assert right >= 45
    truth = np.subtract(*PROBLEM.means([good, bad]).mean(axis=1))
    assert np.mean(gaps) == pytest.approx(truth, abs=0.03)


def test_volume_and_regret_go_from_the_base_to_the_best():
    base, best = PROBLEM.baselines["base"], PROBLEM.optimum.points[0]
    assert PROBLEM.volume([base]) == 0
    assert 0.9 < PROBLEM.volume(PROBLEM.front.points) < 1  # between its points something is missing
    assert 0.2 < PROBLEM.volume([base, best]) < 0.9
    assert PROBLEM.regret(base) == pytest.approx(1)
    assert PROBLEM.regret(best) == pytest.approx(0, abs=1e-12)
    assert PROBLEM.gains([base])[0].tolist() == [0, 0, 0]
    experts = PROBLEM.gains([PROBLEM.baselines[expert] for expert in PROBLEM.experts])
    assert experts.max(axis=0).tolist() == [1, 1, 1]
