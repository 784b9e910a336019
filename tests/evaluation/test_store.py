import json
import os
import signal
import subprocess
import sys
import time

import pytest

from evomerge.errors import UsageError, WorkError
from evomerge.evaluation import Outcome, OutcomeStore


def outcome(i: int, **more) -> Outcome:
    values = {"task": "t", "item": f"test:{i}", "score": i / 7, "tokens": i, "truncated": False, "answer": f"é\n{i}"}
    return Outcome(**{**values, "prompt_hash": f"{i:016x}", **more})


def find(store, i, key="k", settings="s"):
    return store.get(key, settings, "t", f"test:{i}", f"{i:016x}")


def test_what_was_added_is_found_again(tmp_path):
    store = OutcomeStore(tmp_path / "outcomes")
    rows = [outcome(i, strict=0.0, flexible=1.0) for i in range(5)]
    store.add("k", "s", rows[:3])
    store.add("k", "s", rows[3:])
    store.add("k", "s", [])
    for known in (store, OutcomeStore(tmp_path / "outcomes")):
        assert [find(known, i) for i in range(5)] == rows
        assert len(known) == 5
        assert find(known, 1, key="other") is None
        assert find(known, 1, settings="other") is None
        assert known.get("k", "s", "t", "test:1", "f" * 16) is None
    store.close()


def test_nothing_is_written_before_the_first_outcome(tmp_path):
    OutcomeStore(tmp_path / "outcomes").close()
    assert not (tmp_path / "outcomes").exists()


def test_the_first_outcome_stays(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("k", "s", [outcome(1)])
    store.add("k", "s", [outcome(1, answer="later")])
    assert find(store, 1) == find(OutcomeStore(tmp_path), 1) == outcome(1)


def test_writers_have_files_of_their_own(tmp_path):
    first, second = OutcomeStore(tmp_path), OutcomeStore(tmp_path)
    first.add("k", "s", [outcome(1)])
    second.add("k", "s", [outcome(2)])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    assert len(OutcomeStore(tmp_path)) == 2


def test_read_also(tmp_path):
    old = OutcomeStore(tmp_path / "old")
    old.add("k", "s", [outcome(1)])
    store = OutcomeStore(tmp_path / "new", read_also=[tmp_path / "old"])
    store.add("k", "s", [outcome(2)])
    assert find(store, 1) == outcome(1)
    assert len(OutcomeStore(tmp_path / "old")) == 1


@pytest.mark.parametrize("cut", [1, 2, 40, 100])
def test_torn_last_line_is_ignored(tmp_path, cut):
    store = OutcomeStore(tmp_path)
    store.add("k", "s", [outcome(1)])
    store.add("k", "s", [outcome(2), outcome(3)])
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])
    again = OutcomeStore(tmp_path)
    assert find(again, 1) == outcome(1)
    assert len(again) == 1  # of a block all or nothing
    again.add("k", "s", [outcome(2)])
    assert len(OutcomeStore(tmp_path)) == 2


def test_a_file_cut_within_its_first_line(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"vers')
    assert len(OutcomeStore(tmp_path)) == 0


@pytest.mark.parametrize("line", ["{}", "[1]", '{"key": "k", "settings": "s", "outcomes": [{"task": "t"}]}', "no json"])
def test_damage_in_the_middle_is_named(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(f'{{"version": 1}}\n{line}\n')
    with pytest.raises(UsageError, match="x.jsonl is damaged"):
        OutcomeStore(tmp_path)


def test_other_version(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"version": 99}\n')
    with pytest.raises(UsageError, match="version 99"):
        OutcomeStore(tmp_path)


def test_full_disk(tmp_path):
    """With a file size limit in the place of a full disk: a clear error, and what was there before is kept whole."""
    script = """
import resource, signal, sys
from pathlib import Path
from evomerge.errors import WorkError
from evomerge.evaluation import Outcome, OutcomeStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
store = OutcomeStore(Path(sys.argv[1]))
try:
    for i in range(100):
        store.add("k", "s", [Outcome("t", f"test:{i}", 1.0, 1, False, "x" * 100, f"{i:016x}")])
except WorkError as error:
    print(len(store), error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    count, message = done.stdout.split(" ", 1)
    assert "cannot be written" in message
    assert len(OutcomeStore(tmp_path)) == int(count) > 2


def test_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot be written"):
        OutcomeStore(tmp_path / "file" / "outcomes").add("k", "s", [outcome(1)])


def test_kill_in_mid_write(tmp_path):
    """SIGKILL at any moment: every block that was reported as stored is there, and each block is whole."""
    script = """
import sys
from pathlib import Path
from evomerge.evaluation import Outcome, OutcomeStore
store = OutcomeStore(Path(sys.argv[1]))
for block in range(10**6):
    rows = [Outcome("t", f"test:{i}", 1.0, 1, False, "x" * 2000, "0" * 16) for i in range(block * 20, block * 20 + 20)]
    store.add("k", "s", rows)
    print(block, flush=True)
"""
    for moment in (0.02, 0.1, 0.3):
        folder = tmp_path / str(moment)
        process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout
        assert process.stdout.readline() == "0\n"
        time.sleep(moment)
        os.kill(process.pid, signal.SIGKILL)
        told = process.stdout.read().split()
        process.wait()
        store = OutcomeStore(folder)
        assert len(store) % 20 == 0
        assert len(store) >= 20 * (len(told) + 1)
        store.add("k", "s", [outcome(1, item="more")])
        assert json.loads(sorted(folder.glob("*.jsonl"), key=os.path.getmtime)[-1].read_text().split("\n")[0]) == {
            "version": 1
        }
        assert len(OutcomeStore(folder)) == len(store)
