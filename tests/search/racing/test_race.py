"""Races: the promise, what they save, and their manners."""

import numpy as np
import pytest
from scipy import stats

from evomerge.optimizers import Objective
from evomerge.optimizers.scalarization import SCALARIZATIONS
from evomerge.search.racing import Race, RacingSettings, references
from evomerge.search.racing.claims import corners
from tests.search.racing.outcomes import answers, goals, run

FINE = RacingSettings(first=6, eta=1.4)


def field(rng, *sizes, models=16):
    """Known trials and one row more, for tasks of some sizes."""
    tables = [answers(rng, models + 1, size) for size in sizes]
    known = {k: [table[k] for table in tables] for k in range(models)}
    return known, [table[models].copy() for table in tables]


def means(known):
    return {k: [float(row.mean()) for row in rows] for k, rows in known.items()}


def lift(rng, row, aim):
    """Change random outcomes until the mean is the smallest that is not below `aim`."""
    wanted = min(int(np.ceil(aim * len(row) - 1e-9)), len(row))
    excess = int(row.sum()) - wanted
    places = rng.permutation(np.flatnonzero(row == (1.0 if excess > 0 else 0.0)))[: abs(excess)]
    row[places] = 0.0 if excess > 0 else 1.0


def stopped(rule, settings, seed, *, sizes=(16, 40)):
    """Whether a candidate is stopped that is just as good as the best, or just above a corner of the front."""
    rng = np.random.default_rng(seed)
    known, row = field(rng, *sizes)
    objectives, values = goals(len(sizes)), means(known)
    against = references(objectives, rule, values, settings.references)
    if rule == "front":
        found = corners([values[k] for k in against])
        for one, bound in zip(row, found[int(rng.integers(len(found)))], strict=True):
            if np.isfinite(bound):
                lift(rng, one, bound)
            else:
                one[:] = 0.0
    elif rule == "weighted_sum":
        best = sum(values[against[0]])
        lift(rng, row[0], best - float(row[1].mean()))
        lift(rng, row[1], best - float(row[0].mean()))
        assert sum(r.mean() for r in row) >= best - 1e-9
    else:
        for one in row:
            lift(rng, one, min(values[against[0]]))
    race = Race(settings, objectives, rule=rule, known=known, references=against, seed=seed)
    run(race, row)
    return race.beaten_by is not None


@pytest.mark.parametrize("rule", ["front", "weighted_sum", "maximin"])
def test_who_is_as_good_as_the_best_is_rarely_stopped(rule):
    """Against incumbents that are the best of many; alpha is large so that few races can show a broken promise."""
    settings = RacingSettings(first=6, eta=1.5, alpha=0.25)
    count = sum(stopped(rule, settings, seed) for seed in range(40))
    assert stats.binom.cdf(count - 1, 40, 0.25) < 0.999


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimate", "order"), [("paired", "information"), ("irt", "uniform"), ("plain", "information")]
)
@pytest.mark.parametrize("rule", ["front", "weighted_sum", "maximin"])
def test_the_promise_over_many_races(rule, estimate, order):
    settings = RacingSettings(first=4, eta=1.3, alpha=0.1, order=order, estimate=estimate)
    count = sum(stopped(rule, settings, seed) for seed in range(400))
    assert stats.binom.cdf(count - 1, 400, 0.1) < 0.999


def test_a_hopeless_candidate_is_stopped_early_by_the_best():
    known, row = field(np.random.default_rng(0), 100, 40)
    values = means(known)
    best = references(goals(2), "weighted_sum", values, 8)
    race = Race(FINE, goals(2), rule="weighted_sum", known=known, references=best, seed=1)
    assert run(race, [0.0 * one for one in row]) <= 24
    assert [race.beaten_by] == best


@pytest.mark.parametrize("rule", ["front", "maximin", "tchebycheff"])
def test_a_hopeless_candidate_is_stopped_under_every_rule(rule):
    known, row = field(np.random.default_rng(2), 80, 80)
    against = references(goals(2), rule, means(known), 8)
    race = Race(FINE, goals(2), rule=rule, known=known, references=against, seed=1)
    assert run(race, [0.0 * one for one in row]) <= 80
    assert race.beaten_by in against


def saved(settings, seeds):
    """Items used by candidates of the same kind as the known ones, as a share."""
    used = 0
    for seed in seeds:
        known, row = field(np.random.default_rng(seed), 150, models=40)
        best = references(goals(), "weighted_sum", means(known), 8)
        used += run(Race(settings, goals(), rule="weighted_sum", known=known, references=best, seed=seed), row)
    return used / 150 / len(seeds)


def test_telling_items_first_and_what_is_known_of_others_save_items():
    seeds = range(40)
    both = saved(RacingSettings(first=4, eta=1.25), seeds)
    uniform = saved(RacingSettings(first=4, eta=1.25, order="uniform"), seeds)
    plain = saved(RacingSettings(first=4, eta=1.25, order="uniform", estimate="plain"), seeds)
    assert both < 0.95 * uniform < 0.9 * plain
    assert both < 0.4


def test_one_below_a_floor_is_stopped_though_it_is_best_by_far():
    rng = np.random.default_rng(4)
    known, row = field(rng, 100, 100)
    values = means(known)
    objectives = [Objective("task0", 0.0, 1.0), Objective("task1", 0.0, 1.0, floor=0.3)]
    best = references(objectives, "weighted_sum", values, 8)
    assert values[best[0]][1] >= 0.3
    row = [np.ones(100), 0.0 * row[1]]
    assert SCALARIZATIONS["weighted_sum"](goals(2), [1.0, 0.0]) > 0.4
    race = Race(FINE, objectives, rule="weighted_sum", known=known, references=best, seed=0)
    assert run(race, row) < 100
    assert [race.beaten_by] == best


def test_a_margin_stops_who_is_no_better():
    known, _ = field(np.random.default_rng(5), 150)
    best = references(goals(), "weighted_sum", means(known), 8)
    used = [
        run(Race(settings, goals(), rule="weighted_sum", known=known, references=best, seed=0), known[best[0]])
        for settings in (FINE, RacingSettings(first=6, eta=1.4, margin=0.2))
    ]
    assert used[0] == 150
    assert used[1] < 75


def test_blocks_grow_as_told_and_every_item_comes_once():
    known, row = field(np.random.default_rng(6), 30, 9)
    race = Race(RacingSettings(first=4, eta=2.0), goals(2), rule="front", known=known, references=[], seed=3)
    sizes, places = [], [[], []]
    while (block := race.block()) is not None:
        assert race.block() == block
        sizes.append(tuple(map(len, block)))
        for own, new in zip(places, block, strict=True):
            own += new
        race.take([one[list(new)].tolist() for one, new in zip(row, block, strict=True)])
    assert sizes == [(4, 4), (4, 4), (8, 1), (14, 0)]
    assert [sorted(own) for own in places] == [list(range(30)), list(range(9))]
    assert race.beaten_by is None
    for one, result, own in zip(row, race.results(), places, strict=True):
        assert (result.mean, result.error) == (pytest.approx(one.mean(), abs=1e-12), 0.0)
        assert list(result.places) == own


def test_estimates_of_stopped_candidates_are_close_to_the_truth():
    known, row = field(np.random.default_rng(7), 200)
    row[0][np.random.default_rng(0).random(200) < 0.5] = 0.0
    best = references(goals(), "weighted_sum", means(known), 8)
    race = Race(FINE, goals(), rule="weighted_sum", known=known, references=best, seed=5)
    run(race, row)
    (result,) = race.results()
    assert race.beaten_by is not None
    assert result.error > 0.0
    assert abs(result.mean - row[0].mean()) < 4 * result.error


@pytest.mark.parametrize("estimate", ["paired", "irt", "plain"])
def test_the_same_seed_runs_the_same_race(estimate):
    known, row = field(np.random.default_rng(8), 60, 30)
    best = references(goals(2), "front", means(known), 8)
    settings = RacingSettings(first=5, eta=1.5, estimate=estimate)
    state = np.random.get_state()[1].tolist()
    ends = []
    for seed in (1, 1, 2):
        race = Race(settings, goals(2), rule="front", known=known, references=best, seed=seed)
        run(race, row)
        ends.append((race.beaten_by, race.results()))
    assert ends[0] == ends[1] != ends[2]
    assert np.random.get_state()[1].tolist() == state


def test_fractional_scores():
    rng = np.random.default_rng(9)
    known = {k: [rng.random(50) * 0.5 + 0.4] for k in range(5)}
    best = references(goals(), "weighted_sum", means(known), 8)
    race = Race(FINE, goals(), rule="weighted_sum", known=known, references=best, seed=0)
    assert run(race, [rng.random(50) * 0.2]) < 35
    assert race.beaten_by is not None


def test_bad_calls():
    known, row = field(np.random.default_rng(10), 20)
    with pytest.raises(ValueError, match="at least one complete trial"):
        Race(FINE, goals(), rule="front", known={}, references=[], seed=0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Race(FINE, goals(), rule="front", known={0: [row[0] + 0.5]}, references=[], seed=0)
    race = Race(FINE, goals(), rule="front", known=known, references=[0], seed=0)
    with pytest.raises(ValueError, match="nothing has been scored"):
        race.results()
    with pytest.raises(ValueError, match="do not fit"):
        race.take([[1.0] * 6])
    race.block()
    with pytest.raises(ValueError, match="do not fit"):
        race.take([[1.0]])
    with pytest.raises(ValueError, match="between 0 and 1"):
        race.take([[2.0] * 6])
