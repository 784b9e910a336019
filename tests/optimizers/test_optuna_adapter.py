"""Optuna behind ask/tell: starting points are seen, samplers of all kinds run, Optuna stays silent."""

import logging

import numpy as np
import optuna
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import Failure, OptunaOptimizer, Proposal, Tpe, weighted_sum
from tests.optimizers.landscapes import box, drive, goals, quadratic, result, two_peaks


def test_tpe_learns_from_starting_points():
    """With the peak told beforehand the first proposals lie nearer to it than random ones."""

    def distance(with_points):
        distances = []
        for seed in range(5):
            optimizer = Tpe(box(4), goals(), seed=seed, first_number=30)
            rng = np.random.default_rng(seed)
            for number, point in enumerate(rng.random((30, 4)) if with_points else []):
                optimizer.tell(Proposal(number, tuple(point)), result(-float(np.abs(point - 0.85).sum())))
            distances += [np.abs(np.array(p.vector) - 0.85).mean() for p in optimizer.ask(5)]
        return np.mean(distances)

    assert distance(True) < 0.75 * distance(False)


def test_tpe_finds_both_ends_of_a_front():
    proposals = drive(Tpe(box(2), goals(2), seed=0), 120, two_peaks)
    scores = np.array([two_peaks(p.vector) for p in proposals])
    assert (scores.max(axis=0) > 0.97).all()
    middle = np.minimum(scores[:, 0], scores[:, 1]).max()
    assert middle > 0.8  # 0.82 is the best


def test_parallel_proposals_keep_apart():
    """Twelve at once: the median distance to the nearest other one is 0.13, and 0.04 without the constant liar."""
    nearest = []
    for seed in range(12):
        optimizer = Tpe(box(2), goals(), seed=seed)
        drive(optimizer, 40)
        batch = np.array([p.vector for p in optimizer.ask(12)])
        gaps = np.linalg.norm(batch[:, None] - batch[None], axis=-1) + 9 * np.eye(12)
        nearest.append(np.median(gaps.min(axis=1)))
    assert np.median(nearest) > 0.08


def test_the_study_sees_running_failed_and_foreign_points():
    optimizer = Tpe(box(1, ("a", "b")), goals(), seed=0, first_number=2)
    optimizer.tell(Proposal(0, (0.9, 0.25)), result(0.5))
    optimizer.tell(Proposal(1, (0.1, 0.25)), Failure("nan", ""))
    first, second = optimizer.ask(2)
    optimizer.tell(first, Failure("nan", ""))
    trials = optimizer._study.get_trials(deepcopy=False)
    assert [t.state.name for t in trials] == ["COMPLETE", "FAIL", "RUNNING"]
    assert trials[0].params == {"method": "b", "weight.e.layers.0": 0.25}
    assert second.vector[0] in (0.25, 0.75)


@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [
        (lambda: optuna.samplers.RandomSampler(seed=1), 2),
        (lambda: optuna.samplers.NSGAIISampler(population_size=8, seed=1), 2),
        (lambda: optuna.samplers.NSGAIIISampler(population_size=8, seed=1), 3),
        (lambda: optuna.samplers.QMCSampler(seed=1, warn_independent_sampling=False), 1),
        (lambda: optuna.samplers.TPESampler(seed=1, multivariate=False), 1),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_any_sampler_runs_and_resumes(sampler, objectives):
    def score(v):
        return [1.0 - sum((u - 0.2 * (i + 1)) ** 2 for u in v) for i in range(objectives)]

    def make():
        return OptunaOptimizer(box(3), goals(objectives), seed=1, sampler=sampler())

    optimizer = make()
    drive(optimizer, 30, score, workers=2)
    twin = make()
    twin.load_state_dict(optimizer.state_dict())
    assert drive(twin, 10, score) == drive(optimizer, 10, score)


def test_a_single_objective_sampler_takes_several_through_a_scalarization():
    sampler = optuna.samplers.TPESampler(seed=0, multivariate=True)
    optimizer = OptunaOptimizer(box(2), goals(2), seed=0, sampler=sampler, scalarization=weighted_sum)
    proposals = drive(optimizer, 100, two_peaks)
    best = max(proposals, key=lambda p: sum(two_peaks(p.vector)))
    assert best.vector == pytest.approx((0.5, 0.5), abs=0.1)


def test_optuna_is_silent_and_its_logger_is_left_as_it_was(capfd):
    logger = logging.getLogger("optuna")
    level, handlers = logger.level, list(logger.handlers)
    drive(Tpe(box(2), goals(), seed=0), 15, quadratic)
    assert (logger.level, list(logger.handlers)) == (level, handlers)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("options", [{"startup": -1}, {"startup": True}, {"candidates": 0}, {"candidates": "many"}])
def test_bad_options_are_refused(options):
    with pytest.raises(UsageError, match=next(iter(options))):
        Tpe(box(2), goals(), seed=0, **options)
