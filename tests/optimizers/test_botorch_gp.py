"""The Gaussian process with priors from task vectors: where it looks, what it knows of, and that it repeats itself."""

import json
import random
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.errors import UsageError, WorkError
from evomerge.optimizers import Failure, Objective, Problem, Proposal, Result, create
from evomerge.recipes import Dimension
from tests.optimizers.landscapes import box, drive, goals, quadratic, result, two_peaks

pytest.importorskip("botorch", reason="the extra botorch is not installed")

from evomerge.optimizers.botorch_gp import Coding, SaasGp, leaders, raw_points, seeded_torch

QUICK = {"raw": 32, "restarts": 1, "samples": 8}


def gp(dimensions, objectives=1, *, seed=3, first_number=0, **options):
    aims = goals(objectives) if isinstance(objectives, int) else objectives
    return SaasGp(Problem(dimensions, aims, seed=seed, first_number=first_number), **{**QUICK, **options})


def told(points, score, dimensions, objectives=1, **options):
    """An optimizer that was told starting points."""
    optimizer = gp(dimensions, objectives, first_number=len(points), startup=2, **options)
    for number, point in enumerate(points):
        optimizer.tell(Proposal(number, tuple(point)), result(*score(point)))
    return optimizer


def cube(n, d, seed=0):
    return np.random.default_rng(seed).random((n, d)).tolist()


# ---- what it looks for ----------------------------------------------------------------------------------------------


def test_it_beats_random_search_where_three_of_thirty_coordinates_matter():
    def score(vector):
        return [0.9 - sum((u - 0.3) ** 2 for u in vector[:3])]

    def regret(points):
        return 0.9 - max(score(p.vector)[0] for p in points)

    at_random = [regret(drive(create("random", Problem(box(30), goals(), seed=seed)), 36, score)) for seed in range(5)]
    assert regret(drive(gp(box(30)), 36, score)) < 0.3 * np.mean(at_random)


@pytest.mark.slow
def test_an_important_coordinate_is_explored_sooner():
    """Two of twelve coordinates matter; a prior that expects it of them is a better guide than one that does not."""

    def score(vector):
        return [0.9 - (vector[3] - 0.8) ** 2 - (vector[7] - 0.1) ** 2]

    def regret(important, seed):
        dimensions = [replace(d, importance=3.0 if i in important else 0.6) for i, d in enumerate(box(12))]
        optimizer = told(cube(5, 12, seed), score, dimensions, seed=seed)
        return 0.9 - max(score(p.vector)[0] for p in drive(optimizer, 8, score))

    right, wrong = (np.mean([regret(which, seed) for seed in range(2)]) for which in ({3, 7}, {0, 10}))
    assert right < 0.5 * wrong


def test_pending_points_are_kept_apart():
    """Four points asked for together lie farther from each other than four first points of other seeds."""
    points = cube(25, 2)
    together = [p.vector for p in told(points, quadratic, box(2)).ask(4)]
    alone = [told(points, quadratic, box(2), seed=seed).ask(1)[0].vector for seed in range(4)]

    def nearest(vectors):
        gaps = np.linalg.norm(np.array(vectors)[:, None] - np.array(vectors)[None], axis=2)
        return (gaps + 9 * np.eye(len(vectors))).min(axis=1).mean()

    assert nearest(together) > 2 * nearest(alone)


@pytest.mark.parametrize("objectives", [2, 3, 4])
def test_fronts_with_points_in_flight(objectives):
    """Proposals lie between the peaks of the objectives, with others pending, and none is made twice."""
    peaks = [0.2, 0.8, 0.4, 0.6][:objectives]

    def score(vector):
        return [1.0 - sum((u - peak) ** 2 for u in vector) for peak in peaks]

    points = [p.vector for p in told(cube(30, 3), score, box(3), objectives).ask(5)]
    assert len(set(points)) == 5
    assert all(max(p) <= 0.95 for p in points)
    volume = [np.prod(np.maximum(score(p), 0.0)) for p in points]
    assert np.mean(volume) > 1.2 * np.mean([np.prod(np.maximum(score(p), 0.0)) for p in cube(200, 3)])


@pytest.mark.parametrize("floor", [None, 0.75])
def test_floors_are_constraints(floor):
    """The first score grows with u, the second falls; a floor of the second keeps proposals where it is met."""
    objectives = [Objective("gain", 0.0, 1.0), Objective("kept", 0.0, 1.0, floor=floor)]
    optimizer = told(cube(20, 2), lambda p: [0.9 * p[0], 1.0 - 0.8 * p[0]], box(2), objectives, samples=16)
    firsts = [p.vector[0] for p in optimizer.ask(4)]
    limit = 0.25 / 0.8
    assert (max(firsts) > limit + 0.2) == (floor is None)


def test_failures_are_avoided():
    """The better half fails: it is tried, and then the good points of the other half are found."""

    def fails(vector):
        return vector[0] > 0.6

    optimizer, failed = gp(box(2), startup=6), []
    for _ in range(24):
        (p,) = optimizer.ask(1)
        failed.append(fails(p.vector))
        optimizer.tell(p, Failure("nan", "") if failed[-1] else result(0.2 + 0.7 * p.vector[0]))
    assert sum(failed[6:]) >= 1
    assert sum(failed[-8:]) <= 3
    best = max(r.values[0] for r in optimizer._outcomes if isinstance(r, Result))
    assert best > 0.2 + 0.7 * 0.5


def test_noise_is_what_the_errors_say():
    """One lucky score among poor neighbours is believed where its error is small, not where it is large."""
    distances = []
    for error in (0.005, 0.5):
        optimizer = gp(box(1), first_number=9, startup=2, samples=32)
        for number, u in enumerate(np.linspace(0, 1, 9)):
            lucky = number == 2
            value = 0.9 if lucky else 0.3 + 0.3 * u
            optimizer.tell(Proposal(number, (float(u),)), Result((value,), (error if lucky else 0.005,), (10**6,)))
        distances.append(abs(optimizer.ask(1)[0].vector[0] - 0.25))
    assert distances[0] < 0.15
    assert distances[1] > 0.3


def test_errors_are_never_zero_and_follow_the_scale():
    optimizer = gp(box(1), [Objective("a", 0.2, 0.6)], first_number=3)
    for number, error in enumerate([0.0, float("nan"), 0.04]):
        optimizer.tell(Proposal(number, (number / 3,)), Result((0.3 + number / 10,), (error,), (49,)))
    scores, variances = optimizer._scores()
    assert scores[:, 0] == pytest.approx([0.25, 0.5, 0.75])
    assert np.sqrt(variances[:, 0]) == pytest.approx([0.025, 0.025, 0.1])


# ---- features -------------------------------------------------------------------------------------------------------


def conditional():
    return [
        Dimension("method", "method", choices=("linear", "dare", "ties")),
        Dimension("weight", "weight", "e"),
        Dimension("drop_rate", "drop_rate", "e", methods=("dare",)),
    ]


def test_features_of_choices_and_of_coordinates_that_play_no_part():
    coding = Coding(conditional())
    dare, linear = (0.5, 0.3, 0.8), (0.1, 0.3, 0.8)
    rows = coding.encode([dare, linear])
    assert rows[0] == pytest.approx([0, 0.5**0.5, 0, 0.3, 0.8])
    assert rows[1] == pytest.approx([0.5**0.5, 0, 0, 0.3, 0.5])
    assert np.linalg.norm(rows[0, :3] - rows[1, :3]) == pytest.approx(1.0)
    assert coding.decode(rows[0]) == pytest.approx((0.5, 0.3, 0.8))
    assert coding.bounds(dare) == ([*rows[0, :3], 0, 0], [*rows[0, :3], 1, 1])
    assert coding.bounds(linear)[1] == pytest.approx([*rows[1, :3], 1.0, 0.5])


def test_the_best_choice_is_found_and_idle_coordinates_rest():
    space = conditional()

    def score(vector):
        drop = abs(vector[2] - 0.5) if space[0].value(vector[0]) == "dare" else 0.3
        return [0.8 - (vector[1] - 0.6) ** 2 - drop]

    points = drive(gp(space, startup=8), 26, score)
    late = points[-10:]
    assert sum(space[0].value(p.vector[0]) == "dare" for p in late) >= 5
    assert max(score(p.vector)[0] for p in points) > 0.7
    assert all(p.vector[2] == 0.5 for p in points if space[0].value(p.vector[0]) != "dare")


def test_leaders():
    one = np.array([[0.1], [0.9], [0.5]])
    assert leaders(one, {}, most=2) == [1, 2]
    assert leaders(one, {0: 2.0}, most=2) == [1]
    front = np.array([[0.0, 1.0], [0.5, 0.5], [0.49, 0.49], [1.0, 0.0], [0.52, 0.48]])
    assert leaders(front, {}, most=9) == [0, 1, 3, 4]
    assert set(leaders(front, {}, most=3)) in ({0, 1, 3}, {0, 3, 4})
    assert leaders(front, {1: 0.485}, most=9) == [0, 1]
    assert leaders(front, {1: 2.0}, most=9, feasible=True) == []


def test_raw_points_lie_anywhere_and_near_the_good_ones():
    points = np.array(raw_points(box(40), [(0.5,) * 40], 40, np.random.default_rng(0)))
    moved = (points != 0.5).sum(axis=1)
    assert moved[:20].max() < 32
    assert moved[20:].min() == 40
    assert np.abs(points[:20] - 0.5).max() < 0.5


# ---- the same again -------------------------------------------------------------------------------------------------


def test_global_state_is_as_before_and_of_no_influence():
    from botorch.acquisition.multi_objective import logei

    runs = []
    for seed, threads in ((1, 1), (2, 2)):
        random.seed(seed), np.random.seed(seed), torch.manual_seed(seed), torch.set_num_threads(threads)
        before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
        kernel = logei._C, logei._load_attempted
        runs.append([p for n in (1, 2) for p in drive(gp(box(4, ("a", "b")), n, startup=6), 10, two_peaks_of(n))])
        assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
        assert torch.get_num_threads() == threads
        assert (logei._C, logei._load_attempted) == kernel
    torch.set_num_threads(1)
    assert runs[0] == runs[1]


def two_peaks_of(objectives):
    return lambda vector: two_peaks(vector)[:objectives]


def test_warnings_of_the_libraries_are_not_shown(recwarn, capfd):
    with seeded_torch(5), warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("a local search ended early", RuntimeWarning, stacklevel=1)
    assert not recwarn
    assert capfd.readouterr() == ("", "")


def test_what_is_set_is_put_back_when_the_work_fails():
    threads, state = torch.get_num_threads(), torch.get_rng_state()

    def work():
        with seeded_torch(5):
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError(str(torch.rand(3)))

    with pytest.raises(ZeroDivisionError):
        work()
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


def test_a_state_is_replayed_without_making_every_proposal_again():
    class Counted(SaasGp):
        fits = 0

        def _best(self, *args):
            self.fits += 1
            return super()._best(*args)

    def fresh():
        return Counted(Problem(box(3), goals(), seed=1), startup=4, **QUICK)

    optimizer = fresh()
    drive(optimizer, 20, workers=2)
    state = json.loads(json.dumps(optimizer.state_dict()))
    twin = fresh()
    started = time.perf_counter()
    twin.load_state_dict(state)
    assert time.perf_counter() - started < 8
    assert optimizer.fits == 16
    assert twin.fits <= 3
    assert twin.state_dict() == optimizer.state_dict()
    assert twin.ask(2) == optimizer.ask(2)
    state["events"][[e.get("ask") for e in state["events"]].index(15)]["vector"][0] = 0.123
    with pytest.raises(WorkError, match="proposal 15 comes out different"):
        fresh().load_state_dict(state)


def test_a_run_that_was_cut_off_goes_on_the_same():
    whole = drive(gp(box(3), startup=4), 16)
    first = gp(box(3), startup=4)
    assert drive(first, 9) == whole[:9]
    second = gp(box(3), startup=4)
    second.load_state_dict(first.state_dict())
    assert drive(second, 7) == whole[9:]


def test_scores_that_say_nothing_fill_the_space():
    points = drive(gp(box(2), startup=2), 12, lambda v: [0.5])
    assert [p.vector for p in points] == [
        pytest.approx(p.vector, abs=1e-4) for p in drive(create("sobol", Problem(box(2), goals(), seed=3)), 12)
    ]


@pytest.mark.slow
def test_an_ask_is_affordable():
    """64 coordinates and 150 points, on one thread."""
    points = cube(150, 64)
    optimizer = SaasGp(Problem(box(64), goals(2), seed=0, first_number=150))
    for number, point in enumerate(points):
        optimizer.tell(Proposal(number, tuple(point)), result(*(0.8 - 0.02 * (1 - y) for y in two_peaks(point))))
    optimizer.ask(1)
    started = time.process_time()
    optimizer.ask(1)
    assert time.process_time() - started < 8


def test_a_budget_that_ends_before_the_first_fit_is_told():
    assert gp(box(2)).describe(200) == []
    assert gp(box(2)).describe(None) == []
    assert "which is all of 16; lower startup" in gp(box(2)).describe(16)[0]


def test_heavy_libraries_are_loaded_late():
    code = "import sys, evomerge.optimizers; print([m for m in ('botorch', 'gpytorch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "botorch", None)
    with pytest.raises(UsageError, match=r"saasgp needs botorch: pip install 'evomerge\[botorch\]'"):
        gp(box(2))


@pytest.mark.parametrize(("options", "message"), [({"startup": 1}, "startup: 1"), ({"samples": "9"}, "samples: '9'")])
def test_wrong_options(options, message):
    with pytest.raises(UsageError, match=f"optimizer saasgp: {message} must be a whole number >= 2"):
        gp(box(2), **options)
