import errno
import fcntl
import json
import os
import subprocess
import sys
import threading

import pytest

from evomerge.errors import UsageError, WorkError
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import LEDGER_VERSION, Ledger, check_version, is_open, parsed_events, read_events
from tests.search.runs import here

BEGIN = {"event": "begin", "version": LEDGER_VERSION}


def test_events_survive(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(BEGIN)
    ledger.append({"event": "ask", "number": 0, "x": 0.1 + 0.2})
    ledger.close()
    again = Ledger(tmp_path / "ledger.jsonl")
    assert list(again.events()) == [BEGIN, {"event": "ask", "number": 0, "x": 0.1 + 0.2}]


@pytest.mark.parametrize("torn", [b'{"event":"te', b'{"event":"tell"}', b"\xff\x00"])
def test_a_torn_last_line_is_dropped_and_the_next_event_is_whole(tmp_path, torn):
    path = tmp_path / "ledger.jsonl"
    path.write_bytes(json.dumps(BEGIN).encode() + b"\n" + torn)
    ledger = Ledger(path)
    assert list(ledger.events()) == [BEGIN]
    ledger.append({"event": "ask"})
    assert read_events(path)[0] == [BEGIN, {"event": "ask"}]


def test_damage_in_the_middle_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps(BEGIN) + "\n{broken\n" + json.dumps(BEGIN) + "\n")
    for events in (Ledger(path).events(), parsed_events(path)):
        with pytest.raises(UsageError, match="line 2 is damaged"):
            list(events)
    assert path.read_text().count("\n") == 3, "nothing is lost by refusing"


@pytest.mark.parametrize("version", [2, 99])
def test_another_version_is_refused_in_one_clear_line(tmp_path, version):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({"event": "begin", "version": version}) + "\n")
    for read in (Ledger, read_events, check_version, lambda path: RunDirectory(path.parent).prepare({})):
        with pytest.raises(UsageError, match=f"version {version}, this one reads {LEDGER_VERSION}.*start a new run"):
            read(path)
    (tmp_path / "config.yaml").write_text("of: another version\n")
    with pytest.raises(UsageError, match=f"version {version}"):
        RunDirectory(tmp_path).prepare({"other": "keys"})
    done = here("front", str(tmp_path))
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"version {version}" in done.stderr


def test_a_ledger_that_is_not_there_or_just_begun_has_no_version_to_refuse(tmp_path):
    check_version(tmp_path / "ledger.jsonl")
    (tmp_path / "ledger.jsonl").write_bytes(b'{"event":"be')
    check_version(tmp_path / "ledger.jsonl")


def test_a_reader_who_asks_whether_it_is_open_is_in_nobodys_way(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.touch()
    assert not is_open(path)
    with path.open("rb") as reader:
        fcntl.flock(reader, fcntl.LOCK_SH)  # as `is_open` does, only longer
        threading.Timer(0.3, lambda: fcntl.flock(reader, fcntl.LOCK_UN)).start()
        ledger = Ledger(path)
    assert is_open(path)
    ledger.close()
    assert not is_open(path)


def test_a_second_process_is_refused(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    program = f"from evomerge.search.ledger import Ledger; from pathlib import Path; Ledger(Path({str(ledger.path)!r}))"
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "another process is searching" in other.stderr
    ledger.close()
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    path = tmp_path / "ledger.jsonl"
    program = f"""
import resource, signal
from pathlib import Path
from evomerge.errors import WorkError
from evomerge.search.ledger import Ledger
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
ledger = Ledger(Path({str(path)!r}))
ledger.append({BEGIN!r})
size = Path({str(path)!r}).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, size + 20))
try:
    ledger.append({{"event": "ask", "filler": "x" * 100}})
except WorkError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert read_events(path) == ([BEGIN], path.stat().st_size)


def test_nan_never_gets_in(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl")
    with pytest.raises(ValueError, match="JSON"):
        ledger.append({"value": float("nan")})
    assert (tmp_path / "ledger.jsonl").read_bytes() == b""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_write_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(WorkError, match="cannot be written"):
        Ledger(tmp_path / "ledger.jsonl")


def test_two_writers_are_noticed_where_there_are_no_locks(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    one = Ledger(tmp_path / "ledger.jsonl")
    one.append(BEGIN)
    two = Ledger(tmp_path / "ledger.jsonl")
    two.append({"event": "ask", "number": 0})
    with pytest.raises(WorkError, match="another process has written to it: two searches run in this directory"):
        one.append({"event": "ask", "number": 0})
    two.append({"event": "fail", "number": 0})
    assert [event["event"] for event in two.events()] == ["begin", "ask", "fail"]
