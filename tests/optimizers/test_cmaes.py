"""CMA-ES: where it starts, what a generation is, how it restarts."""

import math
import os

import numpy as np
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import CmaEs, Failure, Proposal, maximin
from tests.optimizers.landscapes import box, drive, goals, quadratic, result


def spread(proposals):
    return np.std([p.vector for p in proposals], axis=0)


def told(points, **kwargs):
    optimizer = CmaEs(box(len(points[0][0])), goals(), seed=0, first_number=len(points), population=200, **kwargs)
    for number, (vector, score) in enumerate(points):
        optimizer.tell(Proposal(number, vector), Failure("nan", "") if score is None else result(score))
    return optimizer


def test_it_starts_at_the_best_starting_point_with_a_tenth_of_the_box():
    points = [((0.2, 0.3, 0.4), 0.1), ((0.7, 0.6, 0.4), 0.9), ((0.5, 0.5, 0.5), 0.9), ((0.1, 0.1, 0.1), None)]
    generation = told(points).ask(1000)
    assert len(generation) == 200
    assert np.allclose(np.mean([p.vector for p in generation], axis=0), (0.7, 0.6, 0.4), atol=0.03)
    assert np.allclose(spread(generation), 0.1, rtol=0.2)


def test_it_starts_at_the_centre_with_a_sixth_where_it_knows_nothing():
    generation = told([((0.9, 0.9), None)]).ask(1000)
    assert np.allclose(np.mean([p.vector for p in generation], axis=0), 0.5, atol=0.04)
    assert np.allclose(spread(generation), 1 / 6, rtol=0.2)


def test_a_start_on_the_bounds_stays_inside_and_near():
    generation = told([((0.0, 1.0), 0.9)]).ask(1000)
    assert np.mean([p.vector[0] for p in generation]) < 0.15
    assert np.mean([p.vector[1] for p in generation]) > 0.85


def test_a_point_told_late_changes_nothing():
    late, plain = (CmaEs(box(3), goals(), seed=0, first_number=1) for _ in range(2))
    asked = late.ask(3), plain.ask(3)
    late.tell(Proposal(0, (0.9, 0.9, 0.9)), result(5.0))
    assert asked[0] == asked[1]
    assert late.ask(20) == plain.ask(20)


@pytest.mark.parametrize(("n", "population"), [(1, 8), (3, 8), (6, 9), (40, 15)])
def test_a_generation_is_served_and_then_it_waits(n, population):
    optimizer = CmaEs(box(n), goals(), seed=0)
    assert population == max(8, 4 + math.floor(3 * math.log(n)))
    generation = optimizer.ask(100)
    assert len(generation) == population
    for p in generation[:-1]:
        optimizer.tell(p, result(quadratic(p.vector)[0]))
        assert optimizer.ask(1) == []
    optimizer.tell(generation[-1], result(quadratic(generation[-1].vector)[0]))
    assert len(optimizer.ask(100)) == population


def test_the_order_of_tells_within_a_generation_does_not_matter():
    one, other = (CmaEs(box(4), goals(), seed=0) for _ in range(2))
    generation = one.ask(100)
    assert generation == other.ask(100)
    for p, q in zip(generation, reversed(generation), strict=True):
        one.tell(p, result(quadratic(p.vector)[0]))
        other.tell(q, result(quadratic(q.vector)[0]))
    assert one.ask(100) == other.ask(100)


def test_a_failure_is_ranked_last():
    def second_generation(outcome):
        optimizer = CmaEs(box(4), goals(), seed=0)
        for p in optimizer.ask(100):
            optimizer.tell(p, outcome if p.number == 2 else result(quadratic(p.vector)[0]))
        return optimizer.ask(100)

    assert second_generation(Failure("nan", "")) == second_generation(result(-100.0))
    assert second_generation(Failure("nan", "")) != second_generation(result(100.0))


def test_generations_that_failed_as_a_whole_leave_the_gaussian_as_it_is():
    optimizer = CmaEs(box(2), goals(), seed=0, first_number=1)
    optimizer.tell(Proposal(0, (0.7, 0.3)), result(0.5))
    drive(optimizer, 50 * 8, fails=lambda number: True)
    after = drive(optimizer, 25 * 8, fails=lambda number: True)
    assert np.allclose(np.mean([p.vector for p in after], axis=0), (0.7, 0.3), atol=0.03)
    assert np.allclose(spread(after), 0.1, rtol=0.2)


def test_a_flat_landscape_restarts_elsewhere_with_twice_the_population():
    optimizer = told([((0.9, 0.9), 0.5)])
    sizes, means = [], []
    for _ in range(4):
        generation = optimizer.ask(10_000)
        sizes.append(len(generation))
        means.append(np.mean([p.vector for p in generation], axis=0))
        for p in generation:
            optimizer.tell(p, result(0.5))
    assert sizes == [200, 200, 200, 400]
    assert np.abs(means[3] - means[0]).max() > 0.1


def test_a_converged_search_restarts():
    proposals = drive(CmaEs(box(2), goals(), seed=0), 600)
    late = np.array([p.vector for p in proposals])
    near = np.linalg.norm(late - (0.31, 0.62), axis=1)
    assert near.min() < 0.01
    first = int(near.argmin())
    assert (near[first:] > 0.2).any() or (near[:first] > 0.2)[first // 2 :].any()


def test_maximin_lifts_the_worst_task():
    def score(v):
        return 1.0 - (v[0] - 0.2) ** 2, 1.0 - 4 * (v[0] - 0.8) ** 2

    proposals = drive(CmaEs(box(1), goals(2), seed=0, scalarization=maximin), 100, score)
    best = max(proposals, key=lambda p: min(score(p.vector)))
    assert best.vector[0] == pytest.approx(0.6, abs=0.01)


def test_a_choice_of_more_than_two_and_noise_still_find_the_peak():
    rng = np.random.default_rng(0)
    proposals = drive(CmaEs(box(10), goals(), seed=1), 200, lambda v: [quadratic(v)[0] + 0.03 * rng.standard_normal()])
    last = np.mean([quadratic(p.vector)[0] for p in proposals[-20:]])
    first = np.mean([quadratic(p.vector)[0] for p in proposals[:20]])
    assert 1 - last < 0.5 * (1 - first)


def test_no_file_in_the_current_directory_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = drive(CmaEs(box(2), goals(), seed=0), 60)
    assert os.listdir(tmp_path) == []
    (tmp_path / "cma_signals.in").write_text("{'CSA_dampfac': 100, 'timeout': 0}")
    assert drive(CmaEs(box(2), goals(), seed=0), 60) == before


@pytest.mark.parametrize("options", [{"population": 3}, {"population": 8.5}, {"sigma0": 0.0}, {"sigma0": 2}])
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        CmaEs(box(2), goals(), seed=0, **options)
