"""The list of runs: real searches over a formula, in processes that end in every way there is."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from evomerge.errors import UsageError
from evomerge.search import fleet
from evomerge.search.fleet import find_runs, look_at
from tests.search.runs import here


@contextmanager
def searching(path):
    """A search in a process of its own, once it has said how far it is."""
    script = (
        "import io, sys; from pathlib import Path\n"
        "from evomerge.cli.termination import raising_terminated\n"
        "from tests.search.watch.demo import watched\n"
        "with raising_terminated(): watched(Path(sys.argv[1]), seconds=0.3, out=io.StringIO())"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(path)], stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 60
        while not look_at(path).status.get("best"):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.wait()


def said(path, **status):
    path.mkdir(parents=True)
    (path / "ledger.jsonl").touch()
    if status:
        (path / "status.json").write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), **status}))
    return path


def test_a_search_that_runs_hangs_and_dies(tmp_path, monkeypatch):
    run = tmp_path / "run"
    with searching(run) as process:
        first = look_at(run)
        assert first.state == "running"
        assert first.status["models"]["done"] > 3
        while first.seconds_left is None:  # a few results tell the pace
            time.sleep(0.1)
            first = look_at(run)
        assert (
            0 <= first.seconds_left["low"] <= first.seconds_left["expected"] <= first.status["seconds_left"]["expected"]
        )
        process.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(fleet, "SILENT", 0.5)
        time.sleep(1.5)
        assert look_at(run).state == "hung"
        assert look_at(run).seconds_left is None
        monkeypatch.undo()
        process.kill()
        process.wait()
        assert look_at(run).state == "dead", "it said `running` a moment ago, but nobody is there"


def test_a_search_that_is_asked_to_end(tmp_path):
    with searching(tmp_path / "run") as process:
        process.terminate()
        process.wait(30)
        assert look_at(tmp_path / "run").state == "interrupted"


@pytest.mark.parametrize("state", ["finished", "failed", "interrupted"])
def test_what_a_search_said_at_its_end(tmp_path, state):
    assert look_at(said(tmp_path / "run", state=state)).state == state


def test_a_run_that_is_taken_up_again(tmp_path):
    from evomerge.search.ledger import Ledger

    run = said(tmp_path / "run", state="finished")
    ledger = Ledger(run / "ledger.jsonl")
    assert look_at(run).state == "starting"
    ledger.close()
    assert look_at(run).state == "finished"


def test_a_search_on_another_host_is_believed_for_a_minute(tmp_path):
    run = said(tmp_path / "run", state="running", host="elsewhere", pid=1)
    assert look_at(run).state == "running"
    before = time.time() - 61
    os.utime(run / "status.json", (before, before))
    assert look_at(run).state == "dead"


def test_a_process_of_this_host_that_is_gone_is_not_believed(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert look_at(said(tmp_path / "run", state="running", pid=gone.pid)).state == "dead"
    assert look_at(said(tmp_path / "last", state="running")).state == "running", (
        "it writes its page, and needs no ledger"
    )


def test_runs_are_found_at_any_depth_and_not_inside_of_each_other(tmp_path):
    said(tmp_path / "b" / "seed=1", state="finished")
    said(tmp_path / "a")
    said(tmp_path / "a" / "outcomes")
    (tmp_path / "c").mkdir()
    assert [(str(run.path.relative_to(tmp_path)), run.state) for run in find_runs(tmp_path)] == [
        ("a", "unknown"),
        ("b/seed=1", "finished"),
    ]
    assert [run.path for run in find_runs(tmp_path / "a")] == [tmp_path / "a"]
    with pytest.raises(UsageError, match="no folder below has a ledger"):
        find_runs(tmp_path / "c")
    with pytest.raises(UsageError, match="no such folder"):
        find_runs(tmp_path / "d")


def test_a_torn_status_is_none(tmp_path):
    run = said(tmp_path / "run", state="running")
    (run / "status.json").write_text('{"state": "fini')
    assert look_at(run).state == "unknown"


def test_the_command_line(tmp_path):
    best = {"joined": 0.5, "error": 0.02}
    models = {"done": 7, "planned": 20, "failed": {"worker": 2}}
    said(tmp_path / "one", state="finished", models=models, best=best, split="selection", seconds=75)
    said(
        tmp_path / "two",
        state="running",
        host="elsewhere",
        models=models,
        seconds_left={"low": 60, "expected": 90, "high": 120},
    )
    done = here("runs", str(tmp_path))
    assert done.returncode == 0, done.stderr
    one, two = (line for line in done.stdout.splitlines() if line.lstrip().startswith(("one", "two")))
    assert " ".join(one.split()[1:]) == "finished 7 of 20, 2 failed 0.500 ± 0.020 selection 1:15 - 0:00 ago"
    assert "1:30 (1:00 to 2:00)" in two
    assert "2 runs: 1 finished, 1 running." in done.stdout
    assert f"next: evomerge report {tmp_path}" in done.stdout
    data = json.loads(here("runs", str(tmp_path), "--json").stdout)
    assert [(row["state"], row["status"]["models"]["done"]) for row in data["runs"]] == [
        ("finished", 7),
        ("running", 7),
    ]
    assert here("runs", str(tmp_path / "three")).returncode == 2
