"""What every optimizer must do, whatever its method."""

import json
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from evomerge.errors import UsageError, WorkError
from evomerge.optimizers import OPTIMIZERS, Failure, Proposal, Result
from tests.optimizers.landscapes import box, drive, make, quadratic, result, two_peaks

SLOW = {"gp", "saasgp", "bayesian_map", "nested_map"}  # a tenth of a second to seconds an ask
pytestmark = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(OPTIMIZERS)]
)
HERE = Path(__file__).parents[2]

# Runs in a process of its own. For each line a fresh child, the libraries being loaded, builds an optimizer, loads a
# state if there is one, goes on, prints the proposals.
ELSEWHERE = """
import json, os, sys
from tests.optimizers.landscapes import box, drive, make
for line in sys.stdin:
    if os.fork() == 0:
        name, evaluations, state = json.loads(line)
        optimizer = make(name, box(4, ("a", "b", "c")))
        if state:
            optimizer.load_state_dict(state)
        print(json.dumps([[p.number, p.vector] for p in drive(optimizer, evaluations, workers=3)]), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit(1)
"""

# Saves its state after each event, in the way a careful program does, until it is killed.
VICTIM = """
import itertools, json, os, sys
from tests.optimizers.landscapes import box, make, quadratic, result
name, path = sys.argv[1:]
optimizer = make(name, box(5))
for count in itertools.count():
    (proposal,) = optimizer.ask(1)
    optimizer.tell(proposal, result(*quadratic(proposal.vector)))
    with open(path + ".new", "w") as file:
        json.dump(optimizer.state_dict(), file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(path + ".new", path)
    print(count, flush=True)
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Proposal]]]:
    """What (name, evaluations, state) gives in another process, in which strings have other hashes."""
    noise = tmp_path_factory.mktemp("elsewhere") / "stderr.txt"
    with noise.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-c", ELSEWHERE],
            env={**os.environ, "PYTHONHASHSEED": "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"},
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(name: str, evaluations: int, state: object = None) -> list[Proposal]:
        print(json.dumps([name, evaluations, state]), file=process.stdin, flush=True)
        answer = process.stdout.readline()
        assert noise.read_text() == ""  # no library noise
        return [Proposal(number, tuple(vector)) for number, vector in json.loads(answer)]

    yield ask
    process.stdin.close()
    assert process.wait() == 0


@pytest.mark.parametrize("objectives", [1, 2])
def test_proposals_are_numbered_points_of_the_cube(name, objectives):
    optimizer = make(name, box(6), objectives, first_number=10)
    proposals = drive(optimizer, 60, two_peaks if objectives == 2 else quadratic)
    assert [p.number for p in proposals] == list(range(10, 70))
    assert all(len(p.vector) == 6 and all(type(u) is float and 0.0 <= u <= 1.0 for u in p.vector) for p in proposals)
    assert len({p.vector for p in proposals}) == 60


def test_bounds_hold_where_the_optimum_lies_in_a_corner(name):
    for proposal in drive(make(name, box(3)), 80, lambda v: [v[0] + v[1] - v[2]]):
        assert all(0.0 <= u <= 1.0 for u in proposal.vector)


@pytest.mark.parametrize("objectives", [1, 2])
def test_parallel_workers_and_shuffled_tells(name, objectives):
    proposals = drive(make(name, box(6), objectives), 80, two_peaks if objectives == 2 else quadratic, workers=5)
    assert len({p.vector for p in proposals}) == 80


def test_empty_asks_and_the_sizes_of_asks_change_nothing(name):
    one, other = make(name, box(4)), make(name, box(4))
    a = [p for _ in range(8) for p in one.ask(1)]
    assert one.ask(0) == []
    one.ask(0)
    b = [*other.ask(3), *other.ask(5)]
    assert a == b
    if not (more := make(name, box(4)).ask(1000))[999:]:  # an optimizer that waits: hammering it does no harm
        one.ask(len(more) - 8), other.ask(len(more) - 8)
        assert [one.ask(1) for _ in range(5)] == [[]] * 5
    for p in b:
        one.tell(p, result(*quadratic(p.vector)))
        one.ask(0)
        other.tell(p, result(*quadratic(p.vector)))
    assert one.ask(1) == other.ask(1)


@pytest.mark.parametrize("fails", [lambda n: n % 3 == 0, lambda n: n > 5, lambda n: True], ids=["some", "later", "all"])
def test_failures_do_not_stop_it(name, fails):
    proposals = drive(make(name, box(5)), 70, workers=2, fails=fails)
    assert len({p.vector for p in proposals}) == 70


def test_a_constant_objective_does_not_stop_it(name):
    proposals = drive(make(name, box(3)), 250, lambda v: [0.5])
    assert len({p.vector for p in proposals}) == 250


def test_one_dimension(name):
    proposals = drive(make(name, box(1)), 40, lambda v: [-((v[0] - 0.3) ** 2)])
    assert len(proposals[0].vector) == 1
    assert min(abs(p.vector[0] - 0.3) for p in proposals) < 0.05


def test_a_single_choice_dimension(name):
    if name == "nested_map":  # it merges experts by their weights
        with pytest.raises(UsageError, match="no weight"):
            make(name, box(0, ("a", "b")))
        return
    proposals = drive(make(name, box(0, ("a", "b"))), 40, lambda v: [float(v[0] < 0.5)])
    assert {box(0, ("a", "b"))[0].value(*p.vector) for p in proposals} == {"a", "b"}


def test_choices_among_numbers(name):
    space = box(3, ("a", "b", "c"))
    optimizer = make(name, space, first_number=1)
    optimizer.tell(Proposal(0, (0.99, 0.5, 0.5, 0.5)), result(0.4))
    proposals = drive(optimizer, 60, lambda v: [float(space[0].value(v[0]) == "b") - (v[1] - 0.5) ** 2])
    assert {space[0].value(p.vector[0]) for p in proposals} == {"a", "b", "c"}


def test_a_hundred_dimensions_are_quick(name):
    started = time.perf_counter()
    drive(make(name, box(100)), 40)
    assert time.perf_counter() - started < (120 if name in SLOW else 8)


def test_the_same_seed_gives_the_same_points_and_another_others(name):
    runs = [drive(make(name, box(4), seed=seed), 30) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0][0].vector != runs[2][0].vector


def test_the_same_points_in_another_process(name, elsewhere):
    assert elsewhere(name, 30) == drive(make(name, box(4, ("a", "b", "c"))), 30, workers=3)


def test_a_state_resumes_in_a_fresh_process(name, elsewhere):
    """Saved with points in flight, a failure and an ask that was never told; then again later."""
    optimizer = make(name, box(4, ("a", "b", "c")))
    flying = optimizer.ask(6)
    optimizer.tell(flying.pop(3), result(0.3))
    optimizer.tell(flying.pop(0), Failure("memory", "too large"))
    flying += optimizer.ask(2)
    twin = make(name, box(4, ("a", "b", "c")))
    twin.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert twin.state_dict() == optimizer.state_dict()
    for p in flying:
        optimizer.tell(p, result(0.1))
        twin.tell(p, result(0.1))
    state = json.loads(json.dumps(twin.state_dict()))
    assert elsewhere(name, 25, state) == drive(optimizer, 25, workers=3)


def test_a_killed_process_loses_nothing(name, tmp_path):
    path = tmp_path / "state.json"
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, name, str(path)], cwd=HERE, stdout=subprocess.PIPE, text=True
    )
    assert victim.stdout is not None
    for line in victim.stdout:
        if int(line) >= 17:
            break
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    resumed = make(name, box(5))
    resumed.load_state_dict(json.loads(path.read_text()))
    done = len(resumed.state_dict()["events"]) // 2
    assert done >= 18
    assert drive(resumed, 15) == drive(make(name, box(5)), done + 15)[done:]


def test_starting_points_are_part_of_the_state(name):
    optimizer = make(name, box(3), first_number=3)
    for number, u in enumerate((0.2, 0.9)):
        optimizer.tell(Proposal(number, (u,) * 3), result(u))
    optimizer.tell(Proposal(2, (0.1,) * 3), Failure("nan", ""))
    twin = make(name, box(3), first_number=3)
    twin.load_state_dict(optimizer.state_dict())
    assert drive(twin, 25) == drive(optimizer, 25)


def test_starting_points_alone_are_enough_to_ask(name):
    optimizer = make(name, box(3), 2, first_number=20)
    for number in range(20):
        optimizer.tell(Proposal(number, (number / 19,) * 3), result(0.5, 0.5))
    assert [p.number for p in optimizer.ask(2)] == [20, 21]


def test_a_foreign_point_may_come_late(name):
    optimizer = make(name, box(3), first_number=1)
    optimizer.ask(2)
    optimizer.tell(Proposal(0, (0.5,) * 3), result(0.5))
    assert optimizer.ask(1)[0].number == 3


def test_wrong_tells_are_refused_and_leave_no_trace(name):
    optimizer = make(name, box(2), first_number=5)
    (proposal,) = optimizer.ask(1)
    state = optimizer.state_dict()
    for wrong, outcome in [
        (Proposal(6, (0.1, 0.1)), result(0.5)),  # never asked
        (Proposal(5, (0.1, 0.1)), result(0.5)),  # another vector
        (Proposal(0, (0.1,)), result(0.5)),  # too short
        (Proposal(0, (0.1, 1.1)), result(0.5)),  # outside
        (proposal, result(0.5, 0.5)),  # too many values
        (proposal, result(float("nan"))),  # not a Failure
    ]:
        with pytest.raises(ValueError, match="proposal"):
            optimizer.tell(wrong, outcome)
    assert optimizer.state_dict() == state
    optimizer.tell(proposal, result(0.5))
    optimizer.tell(Proposal(0, (0.1, 0.1)), result(0.5))
    for twice in (proposal, Proposal(0, (0.1, 0.1))):
        with pytest.raises(ValueError, match="told before"):
            optimizer.tell(twice, result(0.5))


def test_states_of_others_are_refused(name):
    state = make(name, box(3)).state_dict()
    others = [make(name, box(4)), make(name, box(3), seed=9), make(name, box(3), 2), make(name, box(3), first_number=1)]
    for other in others:
        with pytest.raises(ValueError, match="the state has"):
            other.load_state_dict(state)
    used = make(name, box(3))
    used.ask(1)
    with pytest.raises(ValueError, match="fresh"):
        used.load_state_dict(state)


def test_a_replay_that_comes_out_different_is_noticed(name):
    optimizer = make(name, box(3))
    optimizer.ask(2)
    state = optimizer.state_dict()
    state["events"][1]["vector"][0] += 1e-12
    with pytest.raises(WorkError, match="proposal 1 comes out different"):
        make(name, box(3)).load_state_dict(state)


def test_global_generators_and_warnings_are_left_alone(name, capfd):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drive(make(name, box(3, ("a", "b"))), 40, fails=lambda n: n % 7 == 0)
        drive(make(name, box(3), 2), 40, two_peaks)
        drive(make(name, box(2)), 120, lambda v: [0.0])
    after = random.getstate(), np.random.get_state(), torch.get_rng_state()
    assert before[0] == after[0]
    assert all(np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True))
    assert torch.equal(before[2], after[2])
    assert capfd.readouterr() == ("", "")


def test_global_seeds_have_no_influence(name):
    runs = []
    for seed in (1, 2):
        random.seed(seed), np.random.seed(seed)
        runs.append(drive(make(name, box(4)), 40))
    assert runs[0] == runs[1]


def test_a_cut_short_result_survives_a_state(name):
    optimizer = make(name, box(2))
    (proposal,) = optimizer.ask(1)
    optimizer.tell(proposal, result(0.4, cut_short=True))
    twin = make(name, box(2))
    twin.load_state_dict(json.loads(json.dumps(optimizer.state_dict())))
    assert twin.state_dict() == optimizer.state_dict()


def test_luck_on_few_items_fools_nobody(name):
    """A point that a race cut short counts for no more than a complete one, however well its few items went."""
    runs = []
    for luck in (0.6, 0.9):
        optimizer = make(name, box(3), first_number=1)
        optimizer.tell(Proposal(0, (0.5,) * 3), result(0.6))

        def score(proposal: Proposal, luck: float = luck) -> Result:
            short = proposal.number % 2 == 0
            return (
                replace(result(0.5), values=(luck,), cut_short=True)
                if short
                else result(0.1 + 0.4 * proposal.vector[0])
            )

        points = []
        for _ in range(40):
            points += optimizer.ask(1)
            optimizer.tell(points[-1], score(points[-1]))
        runs.append(points)
    assert runs[0] == runs[1]
