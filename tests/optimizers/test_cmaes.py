"""CMA-ES: where it starts, what an update is, what it does about noise, how it restarts."""

import math
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import CmaEs, Failure, Problem, Proposal, Result, maximin, tchebycheff, weighted_sum
from evomerge.optimizers.cmaes import SEPARABLE_FROM
from tests.optimizers.landscapes import box, drive, goals, quadratic, result


def spread(proposals):
    return np.std([p.vector for p in proposals], axis=0)


def told(points, **kwargs):
    optimizer = CmaEs(
        Problem(box(len(points[0][0])), goals(), seed=0, first_number=len(points)), population=200, **kwargs
    )
    for number, (vector, score) in enumerate(points):
        optimizer.tell(Proposal(number, vector), Failure("nan", "") if score is None else result(score))
    return optimizer


def test_it_starts_at_the_best_starting_point_with_a_tenth_of_the_box():
    points = [((0.2, 0.3, 0.4), 0.1), ((0.7, 0.6, 0.4), 0.9), ((0.5, 0.5, 0.5), 0.9), ((0.1, 0.1, 0.1), None)]
    generation = told(points).ask(200)
    assert np.allclose(np.mean([p.vector for p in generation], axis=0), (0.7, 0.6, 0.4), atol=0.03)
    assert np.allclose(spread(generation), 0.1, rtol=0.2)


def test_it_starts_at_the_centre_with_a_sixth_where_it_knows_nothing():
    generation = told([((0.9, 0.9), None)]).ask(200)
    assert np.allclose(np.mean([p.vector for p in generation], axis=0), 0.5, atol=0.04)
    assert np.allclose(spread(generation), 1 / 6, rtol=0.2)


def test_a_start_on_the_bounds_stays_inside_and_near():
    generation = told([((0.0, 1.0), 0.9)]).ask(200)
    assert np.mean([p.vector[0] for p in generation]) < 0.15
    assert np.mean([p.vector[1] for p in generation]) > 0.85


def test_a_point_told_late_changes_nothing():
    late, plain = (CmaEs(Problem(box(3), goals(), seed=0, first_number=1)) for _ in range(2))
    asked = late.ask(3), plain.ask(3)
    late.tell(Proposal(0, (0.9, 0.9, 0.9)), result(5.0))
    assert asked[0] == asked[1]
    assert late.ask(20) == plain.ask(20)


def test_with_one_worker_a_generation_is_drawn_from_one_gaussian():
    """Until the population's results are in, the points are those that come out without any result."""
    for n, population in [(1, 8), (3, 8), (6, 9), (30, 14)]:
        assert population == max(8, 4 + math.floor(3 * math.log(n)))
        served, plain = (CmaEs(Problem(box(n), goals(), seed=0)) for _ in range(2))
        reference = plain.ask(population + 1)
        points = drive(served, population)
        assert points == reference[:population]
        assert served.ask(1) != reference[population:]


def test_it_never_waits():
    optimizer = CmaEs(Problem(box(4), goals(), seed=0))
    points = optimizer.ask(100)
    assert len({p.vector for p in points}) == 100
    assert np.allclose(spread(points), 1 / 6, rtol=0.25)


def test_late_results_count_in_a_later_update():
    """The last point of the first eight comes in during the second update, and changes what it comes to."""

    def third(value):
        optimizer = CmaEs(Problem(box(4), goals(), seed=0), population=8)
        flying = optimizer.ask(9)
        late = flying.pop(0)
        for p in flying:
            optimizer.tell(p, result(quadratic(p.vector)[0]))
        second = optimizer.ask(9)[1:]  # the first one is the mean
        optimizer.tell(late, result(value))
        for p in second[:7]:
            optimizer.tell(p, result(quadratic(p.vector)[0]))
        return optimizer.ask(3)

    assert third(2.0) != third(-2.0)
    assert third(2.0) == third(3.0)  # its rank counts, not its score


@pytest.mark.parametrize("workers", [4, 16])
def test_with_many_workers_the_optimum_is_found_about_as_fast(workers):
    def needed(count):
        numbers = []
        for seed in range(5):
            points = drive(CmaEs(Problem(box(6), goals(), seed=seed)), 300, workers=count)
            numbers.append(next((i for i, p in enumerate(points) if quadratic(p.vector)[0] > 0.998), 300))
        return np.mean(numbers)

    assert needed(workers) < 1.5 * needed(1) + workers


def test_the_order_of_tells_within_an_update_does_not_matter():
    one, other = (CmaEs(Problem(box(4), goals(), seed=0), population=20) for _ in range(2))
    generation = one.ask(20)
    assert generation == other.ask(20)
    for p, q in zip(generation, reversed(generation), strict=True):
        one.tell(p, result(quadratic(p.vector)[0]))
        other.tell(q, result(quadratic(q.vector)[0]))
    assert one.ask(20) == other.ask(20)


def second_generation(outcomes):
    """The points after an update with eight results, of which some are given."""
    optimizer = CmaEs(Problem(box(4), goals(), seed=0), population=8)
    for p in optimizer.ask(8):
        optimizer.tell(p, outcomes.get(p.number, result(quadratic(p.vector)[0])))
    return optimizer.ask(8)


def test_a_failure_is_ranked_last():
    assert second_generation({2: Failure("nan", "")}) == second_generation({2: result(-100.0)})
    assert second_generation({2: Failure("nan", "")}) != second_generation({2: result(100.0)})


def test_what_was_cut_short_is_ranked_behind_what_is_complete_and_before_failures():
    short = {2: result(0.5, cut_short=True), 3: Failure("nan", "")}
    assert second_generation(short) == second_generation({2: result(-100.0), 3: result(-200.0)})


def test_the_mean_is_proposed_after_each_update():
    optimizer = CmaEs(Problem(box(6), goals(), seed=0), population=50)
    start = optimizer.ask(50)
    for p in start:
        optimizer.tell(p, result(quadratic(p.vector)[0]))
    (mean,) = optimizer.ask(1)
    cloud = [p.vector for p in optimizer.ask(2000)]
    assert np.allclose(np.mean(cloud, axis=0), mean.vector, atol=0.02)
    assert quadratic(mean.vector) > max(quadratic(p.vector) for p in start)


def test_the_result_of_the_mean_is_no_part_of_an_update():
    def after(value):
        optimizer = CmaEs(Problem(box(3), goals(), seed=0), population=8)
        drive(optimizer, 8)
        (mean,) = optimizer.ask(1)
        optimizer.tell(mean, result(value))
        return drive(optimizer, 20)

    assert after(0.9) == after(-0.9)


def noisy(score, error):
    return Result((score,), (error,), (64,))


@pytest.mark.parametrize(("error", "population"), [(0.1, 15), (0.01, 10)])
def test_the_population_grows_around_the_mean_where_scores_differ_by_less_than_their_errors(error, population):
    """Scores of a standard deviation of about 0.05, two updates."""
    optimizer = CmaEs(Problem(box(3), goals(), seed=0), population=10, sigma0=0.1)
    for _ in range(21):
        (p,) = optimizer.ask(1)
        optimizer.tell(p, noisy(0.1 * (p.number % 2), error))
    assert optimizer._population == population
    mean, *cloud = [p.vector for p in optimizer.ask(200)]
    assert np.allclose(np.mean(cloud, axis=0), mean, atol=0.03)


def test_a_flat_landscape_restarts_elsewhere_with_twice_the_population():
    optimizer = told([((0.9, 0.9), 0.5)])
    means, population = [], []
    for size in (200, 201, 201, 200):  # the mean is proposed before the second and third
        generation = optimizer.ask(size)
        population.append(optimizer._population)
        means.append(np.mean([p.vector for p in generation], axis=0))
        for p in generation:
            optimizer.tell(p, result(0.5))
    assert population == [200, 200, 200, 400]
    assert np.abs(means[3] - means[0]).max() > 0.1


def test_results_of_a_run_before_the_restart_are_not_used():
    def after(value):
        optimizer = told([((0.9, 0.9), 0.5)])
        flying = optimizer.ask(601)
        late = flying.pop()
        for p in flying:
            optimizer.tell(p, result(0.5))
        assert optimizer._population == 400
        optimizer.tell(late, result(value))
        return drive(optimizer, 450)[-1]

    assert after(0.9) == after(0.1)


def test_with_very_many_in_flight_an_update_takes_half_as_many_results():
    """Points drawn dozens of updates ago lead astray; nobody waits all the same."""

    def late(workers, evaluations):
        optimizer = CmaEs(Problem(box(10), goals(), seed=0))
        populations = [optimizer._population]
        flying = optimizer.ask(workers)
        while len(flying) < workers + evaluations:
            optimizer.tell(flying[len(flying) - workers], result(*quadratic(flying[len(flying) - workers].vector)))
            flying += optimizer.ask(1)
            populations.append(optimizer._population)
        return optimizer, populations

    _, populations = late(3 * 10, 60)
    assert set(populations) == {10}
    many, populations = late(200, 1500)
    assert set(populations[1:]) == {99}
    assert quadratic(many._mean())[0] > quadratic((0.5,) * 10)[0]


def test_a_converged_search_restarts():
    proposals = drive(CmaEs(Problem(box(2), goals(), seed=0)), 600)
    late = np.array([p.vector for p in proposals])
    near = np.linalg.norm(late - (0.31, 0.62), axis=1)
    assert near.min() < 0.01
    first = int(near.argmin())
    assert (near[first:] > 0.2).any() or (near[:first] > 0.2)[first // 2 :].any()


@pytest.mark.parametrize(("scalarization", "best"), [(maximin, 0.6), (tchebycheff, 0.6), (weighted_sum, 0.68)])
def test_a_scalarization_joins_several_tasks(scalarization, best):
    def score(v):
        return 1.0 - (v[0] - 0.2) ** 2, 1.0 - 4 * (v[0] - 0.8) ** 2

    last = drive(CmaEs(Problem(box(1), goals(2), seed=0), scalarization=scalarization), 60, score)[-10:]
    assert np.median([p.vector[0] for p in last]) == pytest.approx(best, abs=0.02)


def test_a_floor_is_respected():
    """Without the floor the best lies at 1, far below it; with it, at 0.5."""

    def last(floor):
        objectives = [goals()[0], replace(goals(2)[1], floor=floor)]
        optimizer = CmaEs(Problem(box(2), objectives, seed=0))
        return [p.vector[0] for p in drive(optimizer, 150, lambda v: [2 * v[0], 1.0 - v[0]])[-20:]]

    assert np.median(last(None)) > 0.95
    assert 0.45 < np.median(last(0.5)) < 0.51


def test_two_hundred_dimensions_are_quick_and_separable():
    """Its time a point does not grow with the square of the dimensions, and it does get better."""
    optimizer = CmaEs(Problem(box(200), goals(), seed=0))
    started = time.process_time()
    points = drive(optimizer, 600)
    assert time.process_time() - started < 5
    assert optimizer._covariance == "separable"
    assert 1 - quadratic(points[-1].vector)[0] < 0.5 * (1 - quadratic(points[0].vector)[0])


@pytest.mark.parametrize("covariance", ["full", "separable", "low_memory"])
def test_every_covariance_draws_from_its_own_seed_alone(covariance):
    runs = []
    for state in (1, 2):
        np.random.seed(state)
        before = np.random.get_state()[1].tolist()
        runs.append(drive(CmaEs(Problem(box(12), goals(), seed=0), covariance=covariance), 60))
        assert np.random.get_state()[1].tolist() == before
    assert runs[0] == runs[1]


@pytest.mark.parametrize("covariance", ["full", "separable", "low_memory"])
def test_every_covariance_finds_the_optimum(covariance):
    best = max(
        quadratic(p.vector)[0] for p in drive(CmaEs(Problem(box(12), goals(), seed=0), covariance=covariance), 500)
    )
    assert 1 - best < 0.005


def test_the_covariance_is_chosen_by_dimension():
    assert CmaEs(Problem(box(SEPARABLE_FROM - 1), goals(), seed=0))._covariance == "full"
    assert CmaEs(Problem(box(SEPARABLE_FROM), goals(), seed=0))._covariance == "separable"
    assert CmaEs(Problem(box(SEPARABLE_FROM), goals(), seed=0), covariance="full")._covariance == "full"


def test_it_describes_itself_and_warns_of_a_small_budget():
    optimizer = CmaEs(Problem(box(40), goals(), seed=0))
    assert optimizer.describe(None) == ["CMA-ES: 40 dimensions, 15 results an update"]
    assert optimizer.describe(200) == [
        "CMA-ES: 40 dimensions, 15 results an update, about 12 updates in 200 candidates"
    ]
    assert "few" in optimizer.describe(60)[0]


def test_a_choice_of_more_than_two_and_noise_still_find_the_peak():
    rng = np.random.default_rng(0)
    proposals = drive(
        CmaEs(Problem(box(10), goals(), seed=1)), 200, lambda v: [quadratic(v)[0] + 0.03 * rng.standard_normal()]
    )
    last = np.mean([quadratic(p.vector)[0] for p in proposals[-20:]])
    first = np.mean([quadratic(p.vector)[0] for p in proposals[:20]])
    assert 1 - last < 0.5 * (1 - first)


def test_no_file_in_the_current_directory_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = drive(CmaEs(Problem(box(2), goals(), seed=0)), 60)
    assert os.listdir(tmp_path) == []
    (tmp_path / "cma_signals.in").write_text("{'CSA_dampfac': 100, 'timeout': 0}")
    assert drive(CmaEs(Problem(box(2), goals(), seed=0)), 60) == before


@pytest.mark.parametrize(
    "options",
    [
        {"population": 3},
        {"population": 8.5},
        {"sigma0": 0.0},
        {"sigma0": 2},
        {"covariance": "fulll"},
        {"covariance": "low_memory"},
    ],
)
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        CmaEs(Problem(box(2), goals(), seed=0), **options)
