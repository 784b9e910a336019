"""Optuna behind ask/tell: starting points, floors and methods are seen, all kinds of samplers run, all is silent."""

import logging
from dataclasses import replace

import optuna
import pytest

from evomerge.errors import UsageError
from evomerge.optimizers import Failure, OptunaOptimizer, Problem, Proposal, Tpe, maximin, weighted_sum
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import box, drive, goals, quadratic, result

NSGA2 = optuna.samplers.NSGAIISampler

#: Three methods; one knows a drop rate, another a `k`, all know the weight.
SPACE = [
    Dimension("method", "method", choices=("linear", "dare", "topk")),
    Dimension("weight", "weight", "e"),
    Dimension("drop_rate", "drop_rate", "e", methods=("dare",)),
    Dimension("k", "k", methods=("topk",), choices=(1.0, 2.0, 3.0)),
]


def tpe(seed):
    return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True, n_startup_trials=5)


def by_method(vector):
    """Best with `dare` at weight 0.7 and drop rate 0.2."""
    method = SPACE[0].value(vector[0])
    return [(method == "dare") - (vector[1] - 0.7) ** 2 - (vector[2] - 0.2) ** 2 * (method == "dare")]


def states(optimizer):
    return [trial.state.name for trial in optimizer._study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("sampler", [tpe, tpe(1), NSGA2(seed=1)], ids=["made anew", "an object", "genetic"])
def test_the_study_sees_running_failed_and_foreign_points(sampler):
    optimizer = OptunaOptimizer(Problem(box(1, ("a", "b")), goals(), seed=0, first_number=2), sampler=sampler)
    optimizer.tell(Proposal(0, (0.9, 0.25)), result(0.5))
    optimizer.tell(Proposal(1, (0.1, 0.25)), Failure("nan", ""))
    first, second = optimizer.ask(2)
    assert (states(optimizer).count("COMPLETE"), states(optimizer).count("RUNNING")) == (1, 2)
    optimizer.tell(first, Failure("nan", ""))
    trials = optimizer._study.get_trials(deepcopy=False)
    (complete,) = [trial for trial in trials if trial.state.name == "COMPLETE"]
    (running,) = [trial for trial in trials if trial.state.name == "RUNNING"]
    assert complete.params == {"method": "b", "weight.e.layers.0": 0.25}
    assert complete.values == [0.5]
    assert running.params == {"method": "ab"[second.vector[0] > 0.5], "weight.e.layers.0": second.vector[1]}


@pytest.mark.parametrize(
    ("sampler", "objectives"),
    [
        (lambda: optuna.samplers.RandomSampler(seed=1), 2),
        (lambda: NSGA2(population_size=8, seed=1), 2),
        (lambda: optuna.samplers.NSGAIIISampler(population_size=8, seed=1), 3),
        (lambda: optuna.samplers.QMCSampler(seed=1, warn_independent_sampling=False), 1),
        (lambda: optuna.samplers.TPESampler(seed=1, multivariate=False), 1),
        (lambda: tpe, 2),
    ],
)
@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
def test_any_sampler_runs_and_resumes(sampler, objectives):
    def score(v):
        return [1.0 - sum((u - 0.2 * (i + 1)) ** 2 for u in v) for i in range(objectives)]

    def make():
        return OptunaOptimizer(Problem(box(3), goals(objectives), seed=1), sampler=sampler())

    optimizer = make()
    drive(optimizer, 30, score, workers=2)
    twin = make()
    twin.load_state_dict(optimizer.state_dict())
    assert drive(twin, 10, score) == drive(optimizer, 10, score)


def test_samplers_made_anew_are_asked_for_few_proposals_of_a_replay_and_nothing_is_missing():
    asked = []

    def make(seed):
        asked.append(seed)
        return tpe(seed)

    optimizer = OptunaOptimizer(Problem(SPACE, goals(), seed=1, first_number=1), sampler=make, conditional=True)
    optimizer.tell(Proposal(0, (0.5, 0.5, 0.5, 0.5)), result(0.5))
    drive(optimizer, 40, by_method, workers=3, fails=lambda number: number % 5 == 0)
    flying = optimizer.ask(2)
    before, state = len(asked), optimizer.state_dict()
    twin = OptunaOptimizer(Problem(SPACE, goals(), seed=1, first_number=1), sampler=make, conditional=True)
    twin.load_state_dict(state)
    assert len(asked) - before == 1 + 6  # proposals 1, 2, 4, 8, 16 and 32, and one to begin with
    for p in flying:
        optimizer.tell(p, result(0.1))
        twin.tell(p, result(0.1))
    assert drive(twin, 10, by_method) == drive(optimizer, 10, by_method)


def test_a_single_objective_sampler_takes_several_through_a_scalarization():
    def score(v):
        return [1.0 - (v[0] - 0.2) ** 2, 1.0 - (v[0] - 0.8) ** 2]

    optimizer = OptunaOptimizer(Problem(box(1), goals(2), seed=0), sampler=tpe, scalarization=weighted_sum)
    assert not optimizer.multi_objective
    best = max(drive(optimizer, 50, score), key=lambda p: sum(score(p.vector)))
    assert best.vector[0] == pytest.approx(0.5, abs=0.1)


def test_a_sampler_that_refuses_the_study_says_so():
    optimizer = OptunaOptimizer(Problem(box(2), goals(2), seed=0), sampler=optuna.samplers.CmaEsSampler(seed=0))
    with pytest.raises(UsageError, match="CmaEsSampler cannot search this: .*multi-objective"):
        optimizer.ask(1)


# ---- floors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scalarization", [None, maximin])
@pytest.mark.parametrize("sampler", [tpe, NSGA2(seed=1)], ids=["made anew", "an object"])
def test_floors_are_constraints_of_the_study(sampler, scalarization):
    objectives = [replace(goals()[0], floor=0.4), replace(goals()[0], name="free", low=0.2, high=0.7)]
    optimizer = OptunaOptimizer(
        Problem(box(2), objectives, seed=0, first_number=1), sampler=sampler, scalarization=scalarization
    )
    optimizer.tell(Proposal(0, (0.5, 0.5)), result(0.5, 0.2))
    (p,) = optimizer.ask(1)
    optimizer.tell(p, result(0.3, 0.7))
    trials = [t for t in optimizer._study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    assert [t.constraints for t in trials] == [{"task0": pytest.approx(-0.1)}, {"task0": pytest.approx(0.1)}]
    assert [t.values for t in trials] == ([[0.0], [0.3]] if scalarization else [[0.5, 0.0], [0.3, pytest.approx(1.0)]])


# ---- spaces in which methods differ ----------------------------------------------------------------------------------


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("sampler", [tpe, NSGA2(seed=1, population_size=10)], ids=["made anew", "an object"])
def test_what_the_method_does_not_know_is_neutral_in_the_vector(sampler, conditional):
    optimizer = OptunaOptimizer(Problem(SPACE, goals(), seed=0), sampler=sampler, conditional=conditional)
    for proposal in drive(optimizer, 40, by_method, workers=2):
        method = SPACE[0].value(proposal.vector[0])
        for dimension, u in zip(SPACE, proposal.vector, strict=True):
            if dimension.methods and method not in dimension.methods:
                assert u == 0.5


def test_what_the_method_does_not_know_is_no_part_of_a_conditional_trial():
    def make(seed):
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, n_startup_trials=5)

    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        make(0)
    optimizer = OptunaOptimizer(Problem(SPACE, goals(), seed=0, first_number=1), sampler=make, conditional=True)
    optimizer.tell(Proposal(0, (0.5, 0.1, 0.2, 0.3)), result(0.1))
    proposals = drive(optimizer, 40, by_method)
    known = {"linear": {"weight"}, "dare": {"weight", "drop_rate"}, "topk": {"weight", "k"}}
    trials = [t for t in optimizer._study.get_trials(deepcopy=False) if t.state.name == "COMPLETE"]
    assert len(trials) == 41
    for trial in trials:
        assert set(trial.params) - {"method"} == known[trial.params["method"]]
    last = [SPACE[0].value(p.vector[0]) for p in proposals[-15:]]
    assert last.count("dare") >= 8  # a third by chance: and it learns across methods


def test_a_point_that_is_known_is_not_proposed_again():
    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study, trial, param_name, param_distribution):
            return 0.25

    for sampler in (Stubborn(), lambda seed: Stubborn()):
        optimizer = OptunaOptimizer(Problem(box(2), goals(), seed=0, first_number=1), sampler=sampler)
        optimizer.tell(Proposal(0, (0.25, 0.25)), result(0.5))
        proposals = drive(optimizer, 8)
        assert len({p.vector for p in proposals} | {(0.25, 0.25)}) == 9


def test_optuna_is_silent_and_its_logger_is_left_as_it_was(capfd):
    logger = logging.getLogger("optuna")
    level, handlers = logger.level, list(logger.handlers)
    drive(Tpe(Problem(box(2), goals(), seed=0)), 15, quadratic)
    assert (logger.level, list(logger.handlers)) == (level, handlers)
    assert capfd.readouterr() == ("", "")
