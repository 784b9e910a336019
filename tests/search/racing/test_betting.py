"""Bets: fair against every true claim, whatever the scores, and quick against false ones."""

import itertools
import math

import numpy as np
import pytest

from evomerge.search.racing.betting import Bets, Steps, stakes
from evomerge.search.racing.order import draw
from tests.search.racing.outcomes import draws_in


def wealth_along(claim, rows, orders, informations, predicted):
    """The wealth after each step where the items of each objective come in a given order; and its probability."""
    every = [
        draws_in(list(order), list(range(len(order))), information)
        for order, information in zip(orders, informations, strict=True)
    ]
    bet, path = Bets(*claim), []
    for step in range(max(map(len, orders))):
        now = []
        for row, (draws, _), guess in zip(rows, every, predicted, strict=True):
            part = draws.part(step, step + 1)
            scored = float(row[draws.places[:step]].sum())
            now.append(Steps(len(row), scored, guess[part.left], part, row[part.places]))
        path += bet.take(now)[0].tolist()
    return path, math.prod(probability for _, probability in every)


@pytest.mark.parametrize("claimed", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("guess", [0.1, 0.6, 0.95])
def test_a_true_claim_is_not_beaten_for_any_scores_and_in_the_mean_over_all_orders(claimed, guess):
    """The expected wealth at every step, and the probability to cross, exactly, for all vectors of four outcomes."""
    information, predicted = np.array([1.0, 0.2, 3.0, 0.5]), np.array([guess, 0.5, 1 - guess, guess])
    for outcomes in [*itertools.product([0.0, 1.0], repeat=4), (0.9, 0.1, 0.8, 0.2), (0.75, 0.75, 1.0, 0.5)]:
        row = np.array(outcomes)
        if row.mean() < claimed:
            continue
        mean, crossing = np.zeros(4), {0.1: 0.0, 0.3: 0.0, 0.6: 0.0}
        for order in itertools.permutations(range(4)):
            path, probability = wealth_along(((1.0,), [claimed]), [row], [order], [information], [predicted])
            mean += probability * np.array(path)
            for alpha in crossing:
                crossing[alpha] += probability * (max(path) >= 1 / alpha)
        assert mean.max() <= 1.0 + 1e-7
        assert all(probability <= alpha + 1e-7 for alpha, probability in crossing.items())


@pytest.mark.parametrize("factors", [(1.0, 1.0), (0.3, 2.0), (1.0, 0.0)])
def test_a_sum_of_unequally_many_items(factors):
    rows = [np.array([1.0, 0.0]), np.array([0.0, 1.0, 0.0, 0.0])]
    claim = (factors, [factors[0] * 0.5 + factors[1] * 0.25])
    informations = [np.array([1.0, 2.0]), np.array([1.0, 0.3, 2.0, 0.6])]
    predicted = [np.array([0.9, 0.8]), np.array([0.3, 0.7, 0.2, 0.9])]
    mean = np.zeros(4)
    for first in itertools.permutations(range(2)):
        for second in itertools.permutations(range(4)):
            path, probability = wealth_along(claim, rows, [first, second], informations, predicted)
            mean += probability * np.array(path)
    assert mean.max() <= 1.0 + 1e-7


def test_steps_taken_at_once_are_fair_too():
    """A claim that is just true, and sloppy steps of three items each: still no gain in the mean."""
    row, rng = np.array([1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0]), np.random.default_rng(0)
    ends = []
    for _ in range(800):
        bet, left, scored = Bets((1.0,), [5 / 9]), np.arange(9), 0.0
        for _ in range(3):
            draws = draw(left, np.linspace(0.1, 1.0, 9)[left], 3, rng)
            found = row[draws.places]
            wealth = bet.take([Steps(9, scored, np.full(len(left), 0.4), draws, found)])[0, -1]
            left, scored = np.delete(left, draws.drawn), scored + found.sum()
        ends.append(wealth)
    assert np.mean(ends) < 1.0 + 4 * np.std(ends) / math.sqrt(len(ends))


def test_several_bounds_at_once_are_as_one_by_one():
    row, order = np.array([0.0, 1.0, 0.0, 0.0, 1.0]), [[4, 2, 0, 1, 3]]
    information, predicted = [np.array([1.0, 0.5, 2.0, 1.0, 0.1])], [np.linspace(0.2, 0.8, 5)]
    draws, _ = draws_in(order[0], list(range(5)), information[0])
    bounds = [0.3, 0.6, 0.9]
    together = Bets((1.0,), bounds).take([Steps(5, 0.0, predicted[0], draws, row[draws.places])])
    for bound, path in zip(bounds, together, strict=True):
        alone = Bets((1.0,), [bound]).take([Steps(5, 0.0, predicted[0], draws, row[draws.places])])[0]
        assert path == pytest.approx(alone)


def test_certainty_is_infinite_and_stays():
    row = np.zeros(6)
    path, _ = wealth_along(((1.0,), [0.5]), [row], [range(6)], [np.ones(6)], [np.full(6, 0.5)])
    assert np.isinf(path[4:]).all()  # at most one of six can be solved after five failures, at most two after four
    assert np.isfinite(path[:3]).all()


def test_a_claim_without_a_say_is_no_bet():
    bet = Bets((0.0,), [0.0])
    draws, _ = draws_in([0, 1], [0, 1], np.ones(2))
    assert bet.take([Steps(2, 0.0, np.full(2, 0.5), draws, np.zeros(2))])[0] == pytest.approx(1.0)
    bet = Bets((0.0,), [1.0])
    assert np.isinf(bet.take([Steps(2, 0.0, np.full(2, 0.5), draws, np.zeros(2))])).all()


def test_stakes_are_the_best_ones():
    """No other allocation of the same budget has a larger mean logarithm."""
    rng = np.random.default_rng(1)
    predicted, chances = rng.uniform(0.05, 0.95, 6), rng.dirichlet(np.ones(6) * 3)
    for others in (0.0, 0.7):
        costs = 0.5 * 0.12 / chances[None]
        budget = np.array([float(costs[0] @ chances) + 0.15])
        best = stakes(predicted, chances, costs, budget, np.array([others]))[0]
        assert (best >= costs[0] - 1e-12).all()
        assert best @ chances == pytest.approx(budget[0], rel=1e-3)

        def growth(kept, others=others, costs=costs):
            lost = np.maximum(others + kept - costs[0], 1e-9)
            return float(chances @ ((1 - predicted) * np.log(others + kept) + predicted * np.log(lost)))

        for _ in range(300):
            other = np.maximum(best + rng.normal(0.0, 0.05, 6), costs[0])
            slack = other - costs[0]
            other = costs[0] + slack * (budget[0] - costs[0] @ chances) / (slack @ chances)
            assert growth(other) <= growth(best) + 1e-4


def test_a_hopeless_candidate_needs_few_items():
    """Twelve failures in a row against a claim of 0.6, where 0.6 was expected."""
    draws, _ = draws_in(list(range(12)), list(range(200)), np.ones(200))
    bet, path = Bets((1.0,), [0.6]), []
    for step in range(12):
        part = draws.part(step, step + 1)
        path += bet.take([Steps(200, 0.0, np.full(len(part.left), 0.6), part, np.zeros(1))])[0].tolist()
    assert np.argmax(np.array(path) > 20) <= 4
