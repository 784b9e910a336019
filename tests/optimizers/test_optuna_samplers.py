"""Optuna's samplers by name: each learns, respects floors, goes on in another process, and tells what is wrong."""

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch

from evomerge.errors import UsageError
from evomerge.optimizers import Gp, NamedSampler, Nsga2, Nsga3, Problem, Proposal, RandomSearch, Tpe, maximin
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import box, drive, goals, quadratic, result, two_peaks

KINDS = [Tpe, Gp, Nsga2, Nsga3]
HERE = Path(__file__).parents[2]

# Goes on from a state of a Gaussian process in a process of its own, and prints its next proposals.
CHILD = """
import json, sys
from evomerge.optimizers import Gp, Problem
from tests.optimizers.landscapes import box, goals
optimizer = Gp(Problem(box(3, ("a", "b")), goals(), seed=5), startup=4)
optimizer.load_state_dict(json.load(sys.stdin))
print(json.dumps([p.vector for p in optimizer.ask(2)]))
"""


def best(proposals):
    return max(quadratic(p.vector)[0] for p in proposals)


# ---- TPE -------------------------------------------------------------------------------------------------------------


def test_tpe_learns_from_starting_points():
    """With the peak told beforehand the first proposals lie nearer to it than random ones."""

    def distance(with_points):
        distances = []
        for seed in range(5):
            optimizer = Tpe(Problem(box(4), goals(), seed=seed, first_number=30))
            rng = np.random.default_rng(seed)
            for number, point in enumerate(rng.random((30, 4)) if with_points else []):
                optimizer.tell(Proposal(number, tuple(point)), result(-float(np.abs(point - 0.85).sum())))
            distances += [np.abs(np.array(p.vector) - 0.85).mean() for p in optimizer.ask(5)]
        return np.mean(distances)

    assert distance(True) < 0.75 * distance(False)


def test_tpe_finds_both_ends_of_a_front():
    scores = np.array([two_peaks(p.vector) for p in drive(Tpe(Problem(box(2), goals(2), seed=0)), 100, two_peaks)])
    assert (scores.max(axis=0) > 0.95).all()
    assert np.minimum(scores[:, 0], scores[:, 1]).max() > 0.8  # 0.82 is the best


def test_parallel_proposals_keep_apart():
    """Twelve at once: the median distance to the nearest other one is 0.13, and 0.04 without the constant liar."""
    nearest = []
    for seed in range(6):
        optimizer = Tpe(Problem(box(2), goals(), seed=seed))
        drive(optimizer, 40)
        batch = np.array([p.vector for p in optimizer.ask(12)])
        gaps = np.linalg.norm(batch[:, None] - batch[None], axis=-1) + 9 * np.eye(12)
        nearest.append(np.median(gaps.min(axis=1)))
    assert np.median(nearest) > 0.08


def test_tpe_replays_two_hundred_dimensions_quickly():
    optimizer = Tpe(Problem(box(200), goals(), seed=0), startup=4)
    started = time.process_time()
    drive(optimizer, 30)
    asked, started = time.process_time() - started, time.process_time()
    twin = Tpe(Problem(box(200), goals(), seed=0), startup=4)
    twin.load_state_dict(optimizer.state_dict())
    assert time.process_time() - started < 0.6 * asked
    assert twin.ask(1) == optimizer.ask(1)


def test_tpe_wastes_no_dimension_of_a_conditional_space():
    """Parameters of one method only: in proposals with the other they are neutral, and they are learnt all the same."""
    own = [Dimension(f"rate.{i}", "rate", "e", methods=("dare",)) for i in range(5)]
    space = [Dimension("method", "method", choices=("linear", "dare")), Dimension("weight", "weight", "e"), *own]

    def score(v):
        return [(v[0] > 0.5) * (1.0 - sum((u - 0.8) ** 2 for u in v[2:]) / 5) - (v[1] - 0.3) ** 2]

    proposals = drive(Tpe(Problem(space, goals(), seed=0)), 80, score)
    for p in proposals:
        assert (p.vector[0] > 0.5) or set(p.vector[2:]) == {0.5}
    rates = np.array([p.vector[2:] for p in proposals[-30:] if p.vector[0] > 0.5])
    assert len(rates) > 10
    assert np.abs(rates - 0.8).mean() < 0.25  # 0.34 by chance


# ---- the Gaussian process --------------------------------------------------------------------------------------------


def test_gp_finds_the_peak_in_few_points():
    assert 1 - best(drive(Gp(Problem(box(3), goals(), seed=0), startup=6), 14)) < 0.01
    assert 1 - best(drive(RandomSearch(Problem(box(3), goals(), seed=0)), 14)) > 0.01


@pytest.mark.slow
def test_gp_with_two_objectives_a_floor_and_running_points():
    """The second task has a floor that half of the space keeps; three points are always being scored."""
    objectives = [goals()[0], replace(goals(2)[1], floor=0.5)]
    proposals = drive(Gp(Problem(box(1), objectives, seed=0), startup=5), 16, lambda v: [v[0], 1.0 - v[0]], workers=3)
    assert len({p.vector for p in proposals}) == 16
    assert sum(p.vector[0] <= 0.5 for p in proposals[-8:]) >= 4


def test_gp_joined_by_a_scalarization():
    optimizer = Gp(Problem(box(1), goals(2), seed=0), startup=4, front=False, scalarization=maximin)
    last = drive(optimizer, 10, lambda v: [v[0], 1.0 - v[0]])[-4:]
    assert min(abs(p.vector[0] - 0.5) for p in last) < 0.03


@pytest.mark.slow
def test_gp_goes_on_in_another_process_after_a_replay_that_asks_it_little():
    optimizer = Gp(Problem(box(3, ("a", "b")), goals(), seed=5), startup=4)
    drive(optimizer, 7)
    optimizer.ask(1)  # open when the state is taken
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps(optimizer.state_dict()),
        cwd=HERE,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert [list(p.vector) for p in optimizer.ask(2)] == json.loads(done.stdout)


def test_gp_leaves_global_generators_alone_and_is_not_moved_by_them(capfd):
    runs = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        runs.append(drive(Gp(Problem(box(2), goals(2), seed=3), startup=4), 6, two_peaks))
        assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    assert runs[0] == runs[1]
    assert capfd.readouterr() == ("", "")


def test_gp_survives_a_constant_objective():
    assert len({p.vector for p in drive(Gp(Problem(box(2), goals(), seed=0), startup=3), 9, lambda v: [0.5])}) == 9


# ---- the genetic ones ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Nsga2, Nsga3])
def test_the_genetic_ones_spread_along_a_front(kind):
    def score(v):
        return [v[0] - sum((u - 0.5) ** 2 for u in v[1:]), 1.0 - v[0] - sum((u - 0.5) ** 2 for u in v[1:])]

    last = drive(kind(Problem(box(6), goals(2), seed=0), population=16), 300, score)[-60:]
    first = np.array([p.vector[0] for p in last])
    assert first.min() < 0.15
    assert first.max() > 0.85
    random_ones = drive(RandomSearch(Problem(box(6), goals(2), seed=0)), 60, score)
    assert (
        np.median([sum(score(p.vector)) for p in last]) > 0.9 > np.median([sum(score(p.vector)) for p in random_ones])
    )


@pytest.mark.parametrize("kind", [Tpe, Nsga2, Nsga3])
def test_a_floor_is_respected(kind):
    """The first task is best where the second lies far below its floor, which a fifth of the space keeps."""
    objectives = [goals()[0], replace(goals(2)[1], floor=0.8)]
    options = {} if kind is Tpe else {"population": 10}
    last = drive(kind(Problem(box(3), objectives, seed=0), **options), 100, lambda v: [v[0], 1.0 - v[0]])[-30:]
    assert sum(p.vector[0] <= 0.2 for p in last) >= 15
    assert max(p.vector[0] for p in last if p.vector[0] <= 0.2) > 0.15


def test_starting_points_are_members_of_the_first_population():
    """It breeds from the points that it was told, not from random ones of its own."""
    optimizer = Nsga2(Problem(box(6), goals(), seed=0, first_number=8), population=8)
    rng = np.random.default_rng(0)
    for number in range(8):
        optimizer.tell(Proposal(number, tuple(0.3 + 0.01 * rng.random(6))), result(0.5))
    children = np.array([p.vector for p in optimizer.ask(10)])
    assert np.median(np.abs(children - 0.305)) < 0.01


# ---- any sampler by name ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("RandomSampler", {}),
        ("QMCSampler", {"qmc_type": "halton", "scramble": True}),
        ("TPESampler", {"n_startup_trials": 5, "multivariate": False}),
        ("NSGAIISampler", {"population_size": 6}),
    ],
)
def test_a_sampler_by_name(name, arguments, capfd):
    def make(seed):
        return NamedSampler(Problem(box(3), goals(), seed=seed), sampler=name, arguments=arguments)

    runs = [drive(make(seed), 20, workers=2) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    assert type(make(1)._study.sampler) is getattr(optuna.samplers, name)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "TPESampel"}, "unknown sampler 'TPESampel'; did you mean 'TPESampler'"),
        ({"sampler": "os"}, "unknown sampler 'os'"),
        ({"sampler": "BaseSampler"}, "unknown sampler 'BaseSampler'"),
        ({"sampler": "nsgaii"}, "unknown sampler 'nsgaii'"),
        ({"sampler": "__builtins__"}, "unknown sampler"),
        ({"sampler": "TPESampler", "arguments": {"n_startup": 3}}, "unknown key 'n_startup'"),
        ({"sampler": "TPESampler", "arguments": {"seed": 3}}, "unknown key 'seed'"),
        ({"sampler": "NSGAIISampler", "arguments": {"population_size": 1}}, "NSGAIISampler refuses its arguments"),
        ({"sampler": "GridSampler"}, "GridSampler refuses its arguments"),
        ({"sampler": "TPESampler", "front": "no"}, "front: write true or false"),
    ],
)
def test_what_makes_no_sense_by_name(options, message):
    with pytest.raises(UsageError, match=message):
        NamedSampler(Problem(box(2), goals(), seed=0), **options)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Tpe, {"startup": -1}),
        (Tpe, {"startup": True}),
        (Tpe, {"candidates": 0}),
        (Tpe, {"candidates": "many"}),
        (Gp, {"startup": 0}),
        (Gp, {"front": 1}),
        (Nsga2, {"population": 3}),
        (Nsga2, {"crossover": 1.5}),
        (Nsga3, {"mutation": -0.1}),
        (Nsga3, {"divisions": 0}),
    ],
)
def test_bad_options_are_refused(kind, options):
    with pytest.raises(UsageError, match=next(iter(options))):
        kind(Problem(box(2), goals(), seed=0), **options)


def test_samplers_are_seeded_by_more_than_32_bits():
    """Optuna takes 32 bits only; runs whose seeds agree in these are different runs."""
    for kind in KINDS:
        assert kind(Problem(box(3), goals(), seed=7)).ask(1) != kind(Problem(box(3), goals(), seed=7 + 2**32)).ask(1)


def test_importing_the_optimizers_does_not_load_torch():
    code = "import sys, evomerge.optimizers; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=HERE, capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "False"
