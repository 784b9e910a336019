"""Estimates: unbiased over every order, exact at the end, with honest errors."""

import itertools

import numpy as np
import pytest

from evomerge.search.racing.estimates import combine, unbiased_steps, weights
from evomerge.search.racing.order import draw
from evomerge.search.racing.prediction import OwnMean, Regression
from tests.search.racing.outcomes import answers, draws_in

SCORES = np.array([1.0, 0.0, 0.25, 1.0, 0.0])
INFORMATION = np.array([0.1, 2.0, 0.7, 0.01, 1.0])


def expectation(scores, before):
    """Some expectation that depends on what was seen: a poor one, of which all that follows must be independent."""
    return np.linspace(0.9, 0.1, len(scores)) * (0.2 + 0.8 * scores[before].sum())


@pytest.mark.parametrize("drawn", [1, 2, 3, 4, 5])
def test_unbiased_over_all_orders(drawn):
    n = len(SCORES)
    total = mean = 0.0
    for order in itertools.permutations(range(n), drawn):
        draws, probability = draws_in(list(order), list(range(n)), INFORMATION)
        steps = []
        for step in range(drawn):
            part = draws.part(step, step + 1)
            expected = expectation(SCORES, list(order[:step]))[part.left]
            scored = SCORES[list(order[:step])].sum()
            found, limit = unbiased_steps(expected[None], part, SCORES[part.places], scored=scored, size=n)
            assert found[0, 0] <= limit[0, 0] + 1e-12
            steps.append(found[0, 0])
        total += probability
        mean += probability * combine(steps, n)[0]
    assert total == pytest.approx(1.0)
    assert mean == pytest.approx(SCORES.mean(), abs=1e-12)


def test_several_draws_at_once_are_the_same_as_one_by_one():
    draws, _ = draws_in([3, 0, 4], list(range(5)), INFORMATION)
    expected = np.linspace(0.1, 0.8, 5)
    at_once = unbiased_steps(expected[None], draws, SCORES[draws.places], scored=0.0, size=5)[0][0]
    for step in range(3):
        part, scored = draws.part(step, step + 1), SCORES[[3, 0, 4][:step]].sum()
        single = unbiased_steps(expected[part.left][None], part, SCORES[part.places], scored=scored, size=5)[0]
        assert single[0, 0] == pytest.approx(at_once[step])


def test_a_uniform_order_without_expectations_gives_the_plain_mean():
    draws, _ = draws_in([3, 0, 4], list(range(5)), np.ones(5))
    steps = unbiased_steps(np.zeros((1, 5)), draws, SCORES[draws.places], scored=0.0, size=5)[0][0]
    assert combine(steps, 5)[0] == pytest.approx(SCORES[[3, 0, 4]].mean())


def test_all_items_give_the_exact_mean_without_error():
    draws, _ = draws_in([3, 0, 4, 1, 2], list(range(5)), INFORMATION)
    steps = unbiased_steps(np.full((1, 5), 0.4), draws, SCORES[draws.places], scored=0.0, size=5)[0][0]
    mean, error = combine(steps, 5)
    assert mean == pytest.approx(SCORES.mean())
    assert error == 0.0


@pytest.mark.parametrize("size", [1, 2, 7, 200])
def test_weights_add_up_to_one(size):
    for drawn in range(1, size + 1):
        assert weights(drawn, size).sum() == pytest.approx(1.0)
        assert weights(drawn, size).min() >= 0.0


def estimate(rng, known, row, drawn, *, predictor, informed):
    """One estimate of a row's mean, in blocks of eight, as a race makes it."""
    n = len(row)
    left, places, steps = np.arange(n), np.zeros(0, dtype=int), []
    spread = known.std(axis=0) if informed else np.zeros(n)
    while len(places) < drawn:
        draws = draw(left, spread[left], 8, rng)
        expected = predictor(places, row[places])[left]
        scored = row[places].sum()
        steps += unbiased_steps(expected[None], draws, row[draws.places], scored=scored, size=n)[0][0].tolist()
        places, left = np.append(places, draws.places), np.delete(left, draws.drawn)
    return combine(steps, n)


@pytest.mark.parametrize("drawn", [8, 48])
def test_unbiased_with_honest_errors_and_smaller_ones_where_others_are_known(drawn):
    rng = np.random.default_rng(5)
    known = answers(rng, 41, 120)
    row, known = known[0], known[1:]
    spread = {}
    for name, predictor, informed in (("plain", OwnMean(120), False), ("paired", Regression(known), True)):
        found = np.array([estimate(rng, known, row, drawn, predictor=predictor, informed=informed) for _ in range(200)])
        means, errors = found.T
        spread[name] = means.std()
        assert abs(means.mean() - row.mean()) < 4 * spread[name] / 14
        assert 0.85 < np.sqrt((errors**2).mean()) / spread[name] < 1.6
        assert (abs(means - row.mean()) < 2 * errors).mean() > 0.9
    assert spread["paired"] < 0.85 * spread["plain"]
