"""The tree of pairwise merges."""

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import Failure, NestedMap, Objective, Problem, Proposal
from evomerge.optimizers.map.amortised import best_points
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import result
from tests.optimizers.map.landscapes import HIGH, goals, logit_quadratic, search, weights


def plain(k):
    return [Objective(f"t{j}", 0.0, 1.0) for j in range(k)]


def told(optimizer, truth, count):
    """Let it propose and tell `count` points; return their weights."""
    found = []
    for _ in range(count):
        (proposal,) = optimizer.ask(1)
        found.append(HIGH * np.array(proposal.vector))
        optimizer.tell(proposal, result(*truth(found[-1][None])[0].tolist()))
    return np.array(found)


def max_sets(found):
    """The sets of experts with weights that are part of no other one: a factor may be 0."""
    sets = {tuple(np.flatnonzero(w).tolist()) for w in found}
    return {s for s in sets if not any(set(s) < set(other) for other in sets)}


def test_eight_experts_are_merged_two_by_two():
    """Own scores in pairs: .5 .52 | .6 .61 | .7 .72 | .8 .83 ..., so neighbours are merged first."""
    tops = np.array([0.5, 0.7, 0.52, 0.72, 0.6, 0.8, 0.61, 0.83])

    def truth(w):
        others = w.sum(axis=1, keepdims=True) - w
        return tops * np.clip(0.2 + 0.8 * np.sin(np.clip(w, 0, 1.5) * np.pi / 2) - 0.05 * others**2 / 8, 0.01, 1)

    optimizer = NestedMap(Problem(weights(8), plain(8), seed=0))
    told(optimizer, truth, 9)  # a random mix and the experts
    assert optimizer.ask(0) == []
    first = told(optimizer, truth, 4 * 8)
    assert max_sets(first) == {(0, 2), (1, 3), (4, 6), (5, 7)}
    second = told(optimizer, truth, 2 * 8)
    assert max_sets(second) == {(0, 2, 4, 6), (1, 3, 5, 7)}
    third = told(optimizer, truth, 8)
    assert max_sets(third) == {tuple(range(8))}
    best = max(truth(third).mean(axis=1))
    assert best > 1.05 * truth(np.full((1, 8), 1 / 8)).mean()


def test_it_follows_the_preference():
    truth = logit_quadratic(1)
    ends = []
    for weight in (0.05, 20.0):
        tasks = [Objective(o.name, o.low, o.high, weight if o.name == "t0" else 1.0) for o in goals(truth)]
        optimizer = NestedMap(Problem(weights(3), tasks, seed=0))
        told(optimizer, truth, 30)
        found = optimizer.surrogates
        ends.append(truth(HIGH * best_points(found, np.array([[o.weight for o in tasks]]), found.points, seed=0))[0, 0])
    assert ends[1] > ends[0] + 0.1


def test_after_the_tree_it_goes_on_in_the_whole_space():
    truth = logit_quadratic(2)
    tasks = goals(truth)
    _, found = search("nested_map", truth, seed=0, items=128, budget=45)
    scores = np.array([[o.normalise(v) for o, v in zip(tasks, row, strict=True)] for row in truth(found)]).mean(axis=1)
    grid = HIGH * np.stack(np.meshgrid(*[np.linspace(0, 1, 16)] * 3), axis=-1).reshape(-1, 3)
    best = np.array([[o.normalise(v) for o, v in zip(tasks, row, strict=True)] for row in truth(grid)]).mean(axis=1)
    assert scores.max() > best.max() - 0.02


def test_weights_of_layers_are_tied_in_the_tree():
    optimizer = NestedMap(Problem(weights(2, 3), plain(2), seed=0))
    proposals = told(optimizer, lambda w: np.full((len(w), 2), 0.5), 8)
    assert all(np.ptp(w[:3]) < 1e-12 and np.ptp(w[3:]) < 1e-12 for w in proposals)


def test_experts_that_fail_do_not_stop_it():
    optimizer = NestedMap(Problem(weights(4), plain(2), seed=0))
    seen = set()
    for _ in range(60):
        (proposal,) = optimizer.ask(1)
        seen.add(proposal.vector)
        optimizer.tell(proposal, Failure("nan", ""))
    assert len(seen) == 60


def test_it_never_waits():
    optimizer = NestedMap(Problem(weights(4), plain(2), seed=0))
    assert len({p.vector for p in optimizer.ask(40)}) == 40


def test_told_experts_are_not_scored_again():
    optimizer = NestedMap(Problem(weights(2), plain(2), seed=0, first_number=2))
    for number, vector in enumerate([(2 / 3, 0.0), (0.0, 2 / 3)]):
        optimizer.tell(Proposal(number, vector), result(0.5, 0.4))
    (proposal,) = optimizer.ask(1)
    assert proposal.vector == pytest.approx((1 / 3, 1 / 3))


def test_what_it_costs_is_told():
    lines = NestedMap(Problem(weights(8), plain(8), seed=0)).describe(100)
    assert lines[0] == (
        "nested_map: 8 experts, 7 merges of two, 56 candidates of 100; the rest go to map over all 8 dimensions"
    )
    assert "24 weights are tied" in NestedMap(Problem(weights(8, 3), plain(8), seed=0)).describe(None)[1]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ([Dimension("t", "t")], "no weight is searched"),
        ([*weights(1), Dimension("drop_rate.f", "drop_rate", "f")], "no weight of f"),
        ([Dimension(f"weight.e.{x}", "weight", "e") for x in ("alpha", "beta")], "a shape of 2 numbers"),
    ],
)
def test_spaces_without_one_weight_an_expert_are_refused(space, message):
    with pytest.raises(UsageError, match=message):
        NestedMap(Problem(space, plain(2), seed=0))


@pytest.mark.parametrize("points", [4, True, 6.5])
def test_bad_options_are_refused(points):
    with pytest.raises(UsageError, match="points"):
        NestedMap(Problem(weights(2), plain(2), seed=0), points=points)
