"""The status file, polled while a search runs, and after every way in which one can end."""

import io
import json
import multiprocessing
import time

import pytest

from evomerge.cli.termination import raising_terminated
from evomerge.search.watch import STATUS_VERSION, Follower, StatusFile
from evomerge.search.watch import status as status_module
from tests.search.watch.demo import outline, watched


def read(path):
    return json.loads((path / "status.json").read_text())


def start(path, seconds):
    def child():
        with raising_terminated():
            watched(path, seconds=seconds, out=io.StringIO())

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    return process


def wait_for(path, condition, process, timeout=60):
    """Poll as a script would; every look must find a whole file."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if (path / "status.json").exists() and condition(read(path)):
            return read(path)
        assert process.is_alive()
        time.sleep(0.02)
    raise AssertionError(f"not in time: {read(path)}")


def test_a_finished_search(tmp_path):
    record = watched(tmp_path, fail={9}, out=io.StringIO())
    data = read(tmp_path)
    assert data["version"] == STATUS_VERSION
    assert (data["state"], data["phase"], data["error"], data["workers"]) == ("finished", "report", None, [])
    count = len(record.trials)
    assert data["models"] == {"done": count, "planned": count, "left": 0, "failed": {"candidate": 1}}
    assert data["split"] == "selection"
    assert data["best"]["kind"] == "candidate"
    assert {row["kind"] for row in data["baselines"]} == {"base", "expert", "uniform"}
    assert data["seconds_left"] is None
    assert not list(tmp_path.glob("*.new"))


def test_polling_a_search_that_is_then_asked_to_end(tmp_path):
    process = start(tmp_path, 0.3)
    data = wait_for(tmp_path, lambda d: d["phase"] == "search" and d["best"] and d["models"]["done"] > 9, process)
    assert data["state"] == "running"
    assert data["pid"] == process.pid
    assert data["models"]["left"] == data["models"]["planned"] - data["models"]["done"] > 0
    left = data["seconds_left"]
    assert 0 < left["low"] <= left["expected"] <= left["high"]
    assert data["workers"][0]["name"] == "one"
    assert data["scoring"] + data["idle"] == 1
    process.terminate()
    process.join(30)
    data = read(tmp_path)
    assert (data["state"], data["error"]) == ("interrupted", "ended by SIGTERM")


def test_a_killed_search_stops_to_beat(tmp_path):
    process = start(tmp_path, 0.3)
    wait_for(tmp_path, lambda d: d["models"]["done"] > 1, process)
    process.kill()
    process.join(30)
    data = read(tmp_path)
    assert data["state"] == "running"  # nobody was left to say more: `updated` and `pid` tell


def test_a_failed_search_says_why_in_one_line(tmp_path):
    def fail(record):
        if len(record.trials) == 8:
            raise ValueError("the disk\nis full")

    with pytest.raises(ValueError, match="the disk"):
        watched(tmp_path, out=io.StringIO(), on=fail)
    data = read(tmp_path)
    assert (data["state"], data["error"]) == ("failed", "the disk is full")


def test_it_shows_life_where_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "LOOK", 0.02)
    monkeypatch.setattr(status_module, "BEAT", 0.1)
    with StatusFile(tmp_path / "status.json", Follower(outline()), list):
        seen = set()
        end = time.monotonic() + 20
        while len(seen) < 3 and time.monotonic() < end:
            seen.add(read(tmp_path)["seconds"])
            time.sleep(0.02)
    assert len(seen) == 3


def test_it_is_written_by_the_clock_and_not_for_every_event(tmp_path, monkeypatch):
    monkeypatch.setattr(status_module, "LOOK", 3600.0)
    written = []
    write = StatusFile._write
    monkeypatch.setattr(StatusFile, "_write", lambda self: (written.append(1), write(self)))
    watched(tmp_path, out=io.StringIO())
    assert len(written) == 2  # when it began and when it ended


def test_a_disk_that_cannot_be_written_does_not_end_the_search(tmp_path):
    (tmp_path / "status.json.new").mkdir()  # in the way
    out = io.StringIO()
    watched(tmp_path, out=out)
    assert out.getvalue().count("StatusFile: ") == 1
    assert "goes on without it" in out.getvalue()
