"""Whole searches on the zoo with Ray: hosts are separate node processes; actors, a host and the search are killed."""

import importlib.util
import json
import signal
import subprocess

import psutil
import pytest

from tests.search.runs import command, environment, search, search_arguments
from tests.search.workers.ray_hosts import ENVIRONMENT, Hosts
from tests.search.workers.test_zoo import recipes, scores, wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]

#: What a cluster is made of, besides small helpers that need a minute to see that they are alone.
PROCESSES = ("ray::RayWorker", "raylet/raylet", "gcs_server")
OVERRIDES = ("budget.candidates=8", "seed=3")


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same search by one worker in the process of the search; random proposals do not depend on scores."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    done = search(run, *OVERRIDES, "workers=in_process")
    assert done.returncode == 0, done.stderr
    return run


def start(run, *overrides):
    return subprocess.Popen(
        command(*search_arguments(run, *OVERRIDES, "workers=ray", "workers.devices=2", *overrides)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**environment(), **ENVIRONMENT},
        text=True,
    )


def actors():
    """The processes of workers on this machine."""
    found = psutil.process_iter(["cmdline"])
    return [process for process in found if "ray::RayWorker" in "".join(process.info["cmdline"] or [])]


def test_actors_a_host_and_the_search_are_killed(alone, tmp_path):
    run, hosts = tmp_path / "run", Hosts()
    try:
        nodes = [hosts.add(), hosts.add()]
        process = start(run, f"workers.ray.address={hosts.address}")
        wait_for(run, 10, process)
        actors()[0].send_signal(signal.SIGKILL)
        wait_for(run, 14, process)
        hosts.kill(nodes.pop())
        wait_for(run, 18, process)
        hosts.add()
        process.kill()
        process.communicate()
        _, left = psutil.wait_procs(actors(), timeout=30)
        assert not left
        process = start(run, f"workers.ray.address={hosts.address}")
        out, _ = process.communicate(timeout=400)
        assert process.returncode == 0, out
    finally:
        hosts.close()
    assert recipes(run) == recipes(alone)
    assert scores(run) == scores(alone)
    log = (run / "log.txt").read_text()
    assert "died on" in log
    assert "another takes its place" in log


def test_a_cluster_for_one_search_ends_with_it(alone, tmp_path):
    """Nothing was started beforehand, and nothing is left; a search that is killed leaves nothing either."""
    run = tmp_path / "run"
    process = start(run, "workers.ray.address=local")
    wait_for(run, 12, process)
    family = psutil.Process(process.pid).children(recursive=True)
    mine = [child for child in family if any(word in " ".join(child.cmdline()) for word in PROCESSES)]
    assert len(mine) >= 4
    process.kill()
    process.communicate()
    _, left = psutil.wait_procs(mine, timeout=60)
    assert not left
    process = start(run, "workers.ray.address=local")
    out, _ = process.communicate(timeout=400)
    assert process.returncode == 0, out
    assert scores(run) == scores(alone)
    assert "ray" not in out.lower(), "Ray has nothing to say to the user"
    assert not actors()


def test_the_head_is_killed(alone, tmp_path):
    run, hosts = tmp_path / "run", Hosts()
    try:
        hosts.add()
        process = start(run, f"workers.ray.address={hosts.address}", "workers.devices=1")
        wait_for(run, 10, process)
        hosts.kill_head()
        (worker,) = actors()
        worker.suspend()  # its candidate takes long: the search might end before it sees that the head is gone
        out, _ = process.communicate(timeout=200)
        worker.resume()
    finally:
        hosts.close()
    assert process.returncode == 1
    assert "does not answer any more; what was recorded is safe: start a cluster" in out.splitlines()[-1]
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    done = search(run, *OVERRIDES, "workers=in_process")
    assert done.returncode == 0, done.stderr
    assert scores(run) == scores(alone)
