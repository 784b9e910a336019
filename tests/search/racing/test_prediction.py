"""Expectations of a candidate's scores."""

import numpy as np
import pytest

from evomerge.search.racing.irt import Rasch, rasch
from evomerge.search.racing.prediction import OwnMean, Regression
from tests.search.racing.outcomes import answers

NONE = np.zeros(0, dtype=int)


@pytest.mark.parametrize("kind", [Regression, Rasch])
@pytest.mark.parametrize("models", [1, 2, 30])
def test_within_bounds_and_close_to_the_item_means_at_first(kind, models):
    known = answers(np.random.default_rng(0), models, 50)
    expected = kind(known)(NONE, np.zeros(0))
    assert expected.shape == (50,)
    assert expected.min() >= 0.0
    assert expected.max() <= 1.0
    if models == 30:
        assert np.corrcoef(expected, known.mean(axis=0))[0, 1] > 0.95


def test_others_tell_more_than_nothing_and_a_combination_more_than_ability():
    rng = np.random.default_rng(1)
    errors = {OwnMean: [], Rasch: [], Regression: []}
    for _ in range(30):
        known = answers(rng, 41, 120)
        row, seen = known[0], rng.permutation(120)[:30]
        for kind in errors:
            predictor = kind(120) if kind is OwnMean else kind(known[1:])
            errors[kind].append(((predictor(seen, row[seen]) - row) ** 2).mean())
    own, ability, combined = (np.mean(errors[kind]) for kind in (OwnMean, Rasch, Regression))
    assert combined < 0.9 * ability < 0.8 * own


def test_a_candidate_that_fails_everything_is_expected_to_go_on():
    known = answers(np.random.default_rng(2), 20, 100)
    for kind in (Regression, Rasch):
        before = kind(known)(NONE, np.zeros(0))
        after = kind(known)(np.arange(20), np.zeros(20))
        assert after[20:].mean() < 0.6 * before[20:].mean()


def test_rasch_finds_abilities_and_difficulties():
    rng = np.random.default_rng(3)
    ability, difficulty = rng.standard_normal(60), rng.standard_normal(80)
    solved = rng.random((60, 80)) < 1 / (1 + np.exp(difficulty - ability[:, None]))
    found, hard = rasch(solved.astype(float))
    assert np.corrcoef(found, ability)[0, 1] > 0.9
    assert np.corrcoef(hard, difficulty)[0, 1] > 0.9


def test_rasch_is_finite_where_all_or_none_solve():
    abilities, difficulties = rasch(np.array([[1.0, 0.0, 0.5], [1.0, 0.0, 1.0]]))
    assert np.isfinite(abilities).all()
    assert abs(difficulties).max() < 6.0
