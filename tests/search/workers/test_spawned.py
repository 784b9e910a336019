"""Workers in processes of their own: real processes, which die, hang and run out of memory."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing

import psutil
import pytest

from evomerge.errors import UsageError, WorkError
from evomerge.optimizers.base import Failure
from evomerge.search.workers import supervised
from evomerge.search.workers.base import Scored
from evomerge.search.workers.spawned import SpawnedPool
from tests.search.workers.scorers import Trouble, job, run


@pytest.fixture
def said():
    return []


def test_every_job_is_scored_once_and_by_all_workers(tmp_path, said):
    with closing(SpawnedPool()) as pool:
        settings = pool.start(Trouble(tmp_path, always=dict.fromkeys(range(8), "0.3")), ["cpu", "cpu"], said.append)
        while len(pool.idle()) < 2:
            pool.poll(0.1)
        found = run(pool, range(8))
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert len({outcome.fingerprint for outcome in found.values()}) == 2
    assert said == ["cpu begins"]  # the second says nothing new
    assert str(settings["batching"]["rows"]) in found[0].fingerprint + found[1].fingerprint


def test_more_workers_score_as_the_first_does(tmp_path, said):
    with closing(SpawnedPool()) as pool:
        settings = pool.start(Trouble(tmp_path), ["cpu", "cpu"], said.append)
        assert pool._factory.settings == settings  # the first found the shape of its batches; the second is told


@pytest.mark.parametrize(("what", "reason"), [("kill", "was killed by SIGKILL"), ("exit", "ended with status 3")])
def test_what_a_worker_died_of_is_tried_once_more(tmp_path, said, what, reason):
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path, first={2: what}), ["cpu", "cpu"], said.append)
        found = run(pool, range(5))
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert len(said) == 2
    assert f"{reason}" in said[1]
    assert "at candidate 2; another takes its place and tries again" in said[1]


def test_what_kills_two_workers_is_a_failed_candidate(tmp_path, said):
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path, always={1: "kill"}), ["cpu"], said.append)
        found = run(pool, range(4))
    assert found.pop(1) == Failure(
        "worker", "two workers in a row at it, the last was killed by SIGKILL (out of memory?)"
    )
    assert all(isinstance(outcome, Scored) for outcome in found.values())


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(tmp_path, said):
    with closing(SpawnedPool(patience=5.0)) as pool:
        pool.start(Trouble(tmp_path, first={0: "stop"}), ["cpu", "cpu"], said.append)
        found = run(pool, range(3))
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert "hung: no sign of life for 5 seconds at candidate 0" in said[1]


@pytest.mark.slow
def test_a_worker_that_hangs_at_birth_is_replaced(tmp_path, said, monkeypatch):
    monkeypatch.setattr(supervised, "MOST_DEATHS", 2)
    with (
        closing(SpawnedPool(patience=3.0)) as pool,
        pytest.raises(WorkError, match="2 processes in a row could not begin to score, the last hung"),
    ):
        pool.start(Trouble(tmp_path, birth="stop"), ["cpu"], said.append)


@pytest.mark.slow
def test_a_job_that_takes_too_long_is_given_up(tmp_path, said):
    with closing(SpawnedPool(job_seconds=3.0)) as pool:
        pool.start(Trouble(tmp_path, always={0: "100"}), ["cpu"], said.append)
        found = run(pool, range(2))
    assert found[0].kind == "worker"
    assert "gave no result for" in found[0].message
    assert isinstance(found[1], Scored)


@pytest.mark.slow
def test_time_that_the_search_slept_does_not_count(tmp_path, said):
    with closing(SpawnedPool(patience=4.0)) as pool:
        pool.start(Trouble(tmp_path, always={0: "1"}), ["cpu"], said.append)
        pool.submit(pool.idle()[0], job(0))
        worker = pool._workers["cpu"]
        worker.process.send_signal(signal.SIGSTOP)
        time.sleep(5)  # as a laptop that is closed: nobody runs
        worker.process.send_signal(signal.SIGCONT)
        found = run_out(pool)
    assert isinstance(found[0][1], Scored)
    assert len(said) == 1


def run_out(pool):
    found = []
    while not found:
        found = pool.poll()
    return found


@pytest.mark.parametrize(
    ("what", "kind", "message"),
    [("memory", "memory", "MemoryError"), ("candidate", "candidate", "no such"), ("bug", "error", "ZeroDivisionError")],
)
def test_what_concerns_one_candidate_fails_it_alone(tmp_path, said, what, kind, message):
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path, always={0: what}), ["cpu"], said.append)
        found = run(pool, range(2))
        assert found[0].kind == kind
        assert message in found[0].message
        assert isinstance(found[1], Scored)


def test_what_concerns_the_run_is_raised(tmp_path, said):
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path, always={0: "run"}), ["cpu"], said.append)
        with pytest.raises(WorkError, match="the disk is full"):
            run(pool, range(2))


@pytest.mark.parametrize(("birth", "message"), [("run", "disk is full"), ("bug", "ZeroDivisionError: of mine")])
def test_a_scorer_that_cannot_be_built_is_refused(tmp_path, said, birth, message):
    with closing(SpawnedPool()) as pool, pytest.raises(WorkError, match=message):
        pool.start(Trouble(tmp_path, birth=birth), ["cpu"], said.append)


@pytest.mark.slow
def test_workers_that_die_at_birth_end_the_search(tmp_path, said):
    with (
        closing(SpawnedPool()) as pool,
        pytest.raises(WorkError, match=r"3 processes in a row could not begin to score, the last ended with status 3"),
    ):
        pool.start(Trouble(tmp_path, birth="exit"), ["cpu"], said.append)


def test_workers_of_another_kind_are_refused(tmp_path, said):
    factory = Trouble(tmp_path, always={0: "30"})
    with closing(SpawnedPool()) as pool:
        pool.start(factory, ["cpu"], said.append)
        pool._factory = Trouble(tmp_path, settings={"batching": None, "dtype": "other"})
        pool._spawn("cpu/1", "cpu")
        pool.submit("cpu", job(0))
        with pytest.raises(UsageError, match="cpu/1 has"):
            pool.poll()


def test_gpu_workers_see_their_own_gpus(tmp_path, said, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path), ["cuda:0+1", "cuda:2+3"], said.append)
        seen = {outcome.fingerprint.split()[0] for outcome in run(pool, range(8)).values()}
    assert seen <= {"4,5", "6,7"}
    assert "4,5" in seen


@pytest.mark.slow
def test_workers_go_when_the_search_is_killed(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from tests.search.workers.scorers import Trouble, job\n"
        "from evomerge.search.workers.spawned import SpawnedPool\n"
        f"pool = SpawnedPool(); pool.start(Trouble(Path({str(tmp_path)!r}), always={{0: '600'}}), ['cpu'], print)\n"
        "pool.submit('cpu', job(0)); print(pool._workers['cpu'].process.pid, flush=True); time.sleep(600)"
    )
    search = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    worker = int(search.stdout.read(0) or [search.stdout.readline() for _ in range(2)][1])
    search.kill()
    search.wait()
    end = time.monotonic() + 20
    while alive(worker):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_what_a_worker_has_begun_ends_with_it(tmp_path, said):
    with closing(SpawnedPool()) as pool:
        pool.start(Trouble(tmp_path, birth="begin"), ["cpu"], said.append)
        families = [psutil.Process(pool._workers["cpu"].process.pid).children()]
        pool._workers["cpu"].process.kill()
        assert isinstance(run(pool, range(1))[0], Scored)
        families.append(psutil.Process(pool._workers["cpu"].process.pid).children())
    for family in families:
        assert len(family) == 1
        assert not psutil.wait_procs(family, timeout=10)[1]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"
