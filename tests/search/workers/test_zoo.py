"""Whole searches on the zoo with workers in processes of their own: the same scores, whoever makes them and dies."""

import signal
import subprocess
import time

import psutil
import pytest

from tests.search.runs import command, environment, ledger, search, search_arguments

pytestmark = pytest.mark.slow

OVERRIDES = ("workers=spawned", "workers.devices=2", "budget.candidates=8", "seed=3")


def scores(run):
    """What each trial scored on each split; fails if one did so twice."""
    found = {}
    for event in ledger(run):
        if event["event"] == "tell":
            place = (event["number"], event["split"])
            assert place not in found
            found[place] = (event["fingerprint"], event["scores"])
    return found


def recipes(run):
    return {event["number"]: event["recipe"] for event in ledger(run) if event["event"] == "ask"}


def workers_of(process):
    children = psutil.Process(process.pid).children()
    return [child for child in children if "evomerge.search.workers.process" in child.cmdline()]


def wait_for(run, events, process):
    path = run / "ledger.jsonl"
    while not path.exists() or path.read_bytes().count(b"\n") < events:
        assert process.poll() is None
        time.sleep(0.01)


def start(run):
    return subprocess.Popen(
        command(*search_arguments(run, *OVERRIDES)), stdout=subprocess.PIPE, env=environment(), text=True
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The same search by one worker in the process of the search; random proposals do not depend on scores."""
    run = tmp_path_factory.mktemp("runs") / "alone"
    done = search(run, *OVERRIDES[2:], "workers=in_process")
    assert done.returncode == 0, done.stderr
    return run


def test_two_workers_find_what_one_finds(alone, tmp_path):
    done = search(tmp_path / "run", *OVERRIDES)
    assert done.returncode == 0, done.stderr
    assert recipes(tmp_path / "run") == recipes(alone)
    assert scores(tmp_path / "run") == scores(alone)
    assert (tmp_path / "run" / "best" / "recipe.yaml").read_text() == (alone / "best" / "recipe.yaml").read_text()


def test_workers_may_be_killed_and_stopped(alone, tmp_path):
    run = tmp_path / "run"
    process = start(run)
    wait_for(run, 12, process)
    workers_of(process)[0].send_signal(signal.SIGKILL)
    wait_for(run, 20, process)
    workers_of(process)[-1].send_signal(signal.SIGKILL)
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "was killed by SIGKILL" in out
    assert scores(run) == scores(alone)


def test_the_search_may_be_killed(alone, tmp_path):
    run = tmp_path / "run"
    for events in (9, 17, 25):
        process = start(run)
        wait_for(run, events, process)
        workers = workers_of(process)
        process.kill()
        process.communicate()
        _, left = psutil.wait_procs(workers, timeout=30)
        assert not left
    done = search(run, *OVERRIDES)
    assert done.returncode == 0, done.stderr
    assert recipes(run) == recipes(alone)
    assert scores(run) == scores(alone)
