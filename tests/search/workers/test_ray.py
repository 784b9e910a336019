"""Workers that are Ray actors, on hosts that are separate node processes: actors and hosts die, hang and come back."""

import importlib.util
import os
import time
from contextlib import closing
from functools import partial

import pytest

from evomerge.errors import UsageError, WorkError
from evomerge.optimizers.base import Failure
from evomerge.search.config import Evaluation, RaySettings
from evomerge.search.workers import ray_pool
from evomerge.search.workers.base import Scored
from evomerge.search.workers.ray_pool import RayPool
from tests.search.workers import scorers
from tests.search.workers.ray_hosts import ENVIRONMENT, Hosts
from tests.search.workers.scorers import Trouble

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]

EVALUATION = Evaluation("transformers", 16, "float32", "cpu", None, None, {}, 0, False, "auto", None)


@pytest.fixture(scope="module")
def cluster():
    """A head without processors and two hosts with one each; a test that ends one puts another in its place."""
    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ |= ENVIRONMENT
    import ray

    hosts = Hosts()
    try:
        hosts.nodes = [hosts.add(), hosts.add()]
        yield hosts
    finally:
        ray.shutdown()
        hosts.close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture
def said():
    return []


def started(cluster, factory, said, *, wanted=2, patience=60.0, job_seconds=None, **takes):
    """A pool of Ray actors."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
    pool = RayPool(RaySettings(cluster.address, **takes), patience=patience, job_seconds=job_seconds)
    devices = pool.connect(wanted, EVALUATION)
    pool.settings = pool.start(factory, devices, said.append)
    return pool


#: Ray takes its time to put another actor in the place of one.
run = partial(scorers.run, until=90.0, wait=1.0)


def both(pool):
    """Wait until both workers are there."""
    end = time.monotonic() + 60
    while len(pool.idle()) < 2:
        assert time.monotonic() < end
        pool.poll(0.1)
        time.sleep(0.1)


def test_every_job_is_scored_once_and_by_all_workers(cluster, tmp_path, said):
    with closing(started(cluster, Trouble(tmp_path, always=dict.fromkeys(range(8), "0.5")), said)) as pool:
        both(pool)
        found = run(pool, range(8))
        assert pool._factory.settings == pool.settings  # the first found the shape of its batches; the second is told
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert len({outcome.fingerprint for outcome in found.values()}) == 2
    assert said == ["cpu begins"]  # the second says nothing new


def test_what_a_worker_died_of_is_tried_once_more(cluster, tmp_path, said):
    with closing(started(cluster, Trouble(tmp_path, first={2: "kill"}, always={4: "kill"}), said)) as pool:
        found = run(pool, range(6))
    given_up = found.pop(4)
    assert isinstance(given_up, Failure)
    assert given_up.kind == "worker"
    assert "two workers in a row at it, the last died on" in given_up.message
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert len(said) == 4
    assert "at candidate 2; another takes its place and tries again" in said[1]


def test_workers_that_hang_or_take_too_long_are_replaced(cluster, tmp_path, said):
    factory = Trouble(tmp_path, first={0: "stop", 1: "100"})
    with closing(started(cluster, factory, said, patience=5.0, job_seconds=20.0)) as pool:
        found = run(pool, range(3))
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert any("hung: no sign of life for 5 seconds at candidate 0" in line for line in said)
    assert any("gave no result for 2" in line for line in said)


def test_failures_keep_their_kinds(cluster, tmp_path, said):
    factory = Trouble(tmp_path, always={0: "memory", 1: "candidate", 2: "bug", 3: "run"})
    with closing(started(cluster, factory, said)) as pool:
        found = run(pool, range(3))
        assert [found[number].kind for number in range(3)] == ["memory", "candidate", "error"]
        with pytest.raises(WorkError, match="the disk is full"):
            run(pool, [3])


def test_what_a_scorer_cannot_be_built_for_ends_the_search(cluster, tmp_path, said):
    with pytest.raises(WorkError, match="ZeroDivisionError: of mine"):
        started(cluster, Trouble(tmp_path, birth="bug"), said)
    with pytest.raises(WorkError, match="3 processes in a row could not begin to score, the last died"):
        started(cluster, Trouble(tmp_path, birth="exit"), said)


def test_a_host_dies_and_another_comes(cluster, tmp_path, said, monkeypatch):
    monkeypatch.setattr(ray_pool, "WAITS", 1.0)
    with closing(started(cluster, Trouble(tmp_path, always=dict.fromkeys(range(12), "1")), said)) as pool:
        both(pool)

        def trouble(found):
            if len(found) >= 3 and len(cluster.nodes) == 2 and not new:
                cluster.kill(cluster.nodes.pop())
            if len(found) >= 8 and not new:
                new.append(cluster.add())

        new = []

        found = run(pool, range(12), during=trouble)
        cluster.nodes += new
        both(pool)
    assert all(isinstance(outcome, Scored) for outcome in found.values())
    assert len({outcome.fingerprint for outcome in found.values()}) >= 2
    text = "\n".join(said)
    assert "another takes its place and tries again" in text
    assert "is not there yet: Ray has to find 1 CPU for it" in text


def test_each_worker_sees_its_own_gpus(cluster, tmp_path, said):
    import ray

    ray.shutdown()
    node = cluster.add("--num-cpus=2", "--num-gpus=4")
    try:
        pool = RayPool(RaySettings(cluster.address, gpus=2))
        assert pool.connect("auto", EVALUATION) == ["cpu", "cpu"]  # as the evaluation has it; two fit
        with closing(pool):
            pool.start(Trouble(tmp_path, always=dict.fromkeys(range(4), "0.5")), ["cpu", "cpu"], said.append)
            both(pool)
            seen = {outcome.fingerprint.split()[0] for outcome in run(pool, range(4)).values()}
        assert seen == {"0,1", "2,3"}
    finally:
        ray.shutdown()
        cluster.kill(node)


def test_how_many_workers(cluster):
    pool = RayPool(RaySettings(cluster.address))
    end = time.monotonic() + 60
    while pool.connect("auto", EVALUATION) != [
        "cpu",
        "cpu",
    ]:  # one a host; that another is dead takes Ray a while to see
        assert time.monotonic() < end
        time.sleep(0.5)
    assert pool.connect(3, EVALUATION) == ["cpu"] * 3
    with pytest.raises(UsageError, match="auto or a number"):
        pool.connect(["cuda:0"], EVALUATION)


def test_a_cluster_that_is_not_there():
    import ray

    ray.shutdown()
    with pytest.raises(UsageError, match=r"workers.ray.address: no Ray cluster answers at 127.0.0.1:1: "):
        RayPool(RaySettings("127.0.0.1:1")).connect(1, EVALUATION)


def test_a_folder_that_the_host_has_not(cluster, tmp_path, said, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(os, "getcwd", lambda: str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match=r"cannot go to .*elsewhere: No such file or directory; search in a folder"):
        started(cluster, Trouble(tmp_path), said)
