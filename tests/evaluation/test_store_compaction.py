"""Compaction: what it leaves, who else may write and read meanwhile, and that a kill at any moment loses nothing."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.evaluation import Outcome, OutcomeStore
from evomerge.evaluation.store import compaction


def outcome(i: int, answer: str = "x" * 50) -> Outcome:
    return Outcome("t", f"test:{i}", random.Random(i).random(), i, False, answer, f"{i:016x}")


def find(store, i, key="k"):
    return store.get(key, "g", "s", "t", f"test:{i}", f"{i:016x}")


def tables(folder):
    return sorted(folder.glob("*.parquet"))


def rows_on_disk(folder):
    """All places in the tables, and how often each is there."""
    columns = ["key", "generation", "scoring", "task", "item", "prompt_hash"]
    rows = (row for path in tables(folder) for row in pq.read_table(path, columns=columns).to_pylist())
    return Counter(tuple(row.values()) for row in rows)


def test_what_any_tool_sees(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("b", "g", "s", [outcome(1, "a\ud83db"), outcome(2)])
    store.add("a", "g", "s", [outcome(3)])
    store.compact()
    (path,) = tables(tmp_path)
    rows = pq.read_table(path).to_pylist()
    assert [(row["key"], row["item"]) for row in rows] == [("a", "test:3"), ("b", "test:1"), ("b", "test:2")]
    assert (rows[1]["answer"], rows[1]["answer_bytes"]) == ("a?b", b"a\xed\xa0\xbdb")
    assert rows[2]["answer_bytes"] is None
    assert pq.read_schema(path).field("answer").type == "string"


def test_again_changes_nothing(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(i) for i in range(20)])
    store.compact()
    before = {path: path.stat() for path in tmp_path.iterdir()}
    store.compact()
    OutcomeStore(tmp_path).compact()
    assert {path: path.stat() for path in tmp_path.iterdir()} == before


def test_a_model_is_never_split_over_row_groups(tmp_path, monkeypatch):
    store = OutcomeStore(tmp_path)
    monkeypatch.setattr("evomerge.evaluation.store.tables.GROUP_ROWS", 30)
    for key in range(20):
        store.add(f"{key:02}", "g", "s", [outcome(i) for i in range(key)])
    store.compact()
    (path,) = tables(tmp_path)
    file = pq.ParquetFile(path)
    groups = [set(file.read_row_group(i)["key"].to_pylist()) for i in range(file.num_row_groups)]
    assert len(groups) == 6
    assert sum(map(len, groups)) == len(set.union(*groups)) == 19
    again = OutcomeStore(tmp_path)
    assert all(find(again, i, f"{key:02}") == outcome(i) for key in range(20) for i in range(key))


def test_few_tables_and_each_row_once(tmp_path):
    """Many runs after another: the number of tables stays small, and most rows are written a few times only."""
    written = 0
    for run in range(40):
        store = OutcomeStore(tmp_path)
        store.add(
            f"k{run}", "g", "s", [outcome(i, f"{run} {i} {random.Random(run * 99 + i).random()}") for i in range(50)]
        )
        before = set(tables(tmp_path))
        store.compact()
        assert len(tables(tmp_path)) <= 6
        written += sum(pq.read_metadata(path).num_rows for path in set(tables(tmp_path)) - before)
    counts = rows_on_disk(tmp_path)
    assert len(counts) == 40 * 50
    assert set(counts.values()) == {1}
    assert written < 8 * len(counts)
    assert all(find(OutcomeStore(tmp_path), i, f"k{run}") for run in (0, 20, 39) for i in range(50))


def test_segments_without_rows_go(tmp_path):
    (tmp_path / "1-torn.jsonl").write_text('{"ver')
    (tmp_path / "2-empty.jsonl").write_text("")
    (tmp_path / "3-head.jsonl").write_text('{"version": 2}\n')
    store = OutcomeStore(tmp_path)
    store.compact()
    assert not list(tmp_path.glob("*.jsonl"))
    store.begin("k", "g", ["a"])
    store.compact()
    assert OutcomeStore(tmp_path).open_batches("k", "g") == [["a"]]


def test_finished_batches_go(tmp_path):
    store = OutcomeStore(tmp_path)
    store.begin("k", "g", [f"{1:016x}"])
    store.begin("k", "g", [f"{2:016x}"])
    store.add("k", "g", "s", [outcome(1)])
    store.compact()
    (path,) = tables(tmp_path)
    assert pq.read_metadata(path).metadata[b"evomerge"].count(b"0" * 15) == 1


def test_a_writer_whose_segment_is_taken_goes_on(tmp_path):
    """Another process compacts while this one writes: nothing that was acknowledged is lost."""
    writer, other = OutcomeStore(tmp_path), OutcomeStore(tmp_path)
    for i in range(5):
        writer.begin("k", "g", [f"{i:016x}", "open"])
        writer.add("k", "g", "s", [outcome(i)])
        other.compact()
    again = OutcomeStore(tmp_path)
    assert [find(again, i) for i in range(5)] == [outcome(i) for i in range(5)]
    assert again.open_batches("k", "g") == [[f"{i:016x}", "open"] for i in range(5)]


def test_a_line_written_while_its_file_is_sealed_is_written_again(tmp_path):
    """The moment between write and acknowledgement: the sealer may have read the file before the line was there."""
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    (path,) = tmp_path.iterdir()
    sealed = path.rename(path.with_name("gone"))
    store.add("k", "g", "s", [outcome(2)])
    sealed.unlink()
    assert find(OutcomeStore(tmp_path), 2) == outcome(2)
    (path,) = tmp_path.iterdir()
    path.chmod(0o444)  # what is seen where the old name is still remembered
    store.add("k", "g", "s", [outcome(3)])
    path.unlink()
    assert find(OutcomeStore(tmp_path), 3) == outcome(3)


def test_two_compact_at_once(tmp_path, monkeypatch):
    """Another process takes the files that are just being merged: neither fails, nothing is lost."""
    store = OutcomeStore(tmp_path)
    for run in range(4):
        store.add("k", "g", "s", [outcome(run)])
        store.close()
    write_table = compaction.tables.write_table

    def interrupted(path, models, *, replaces):
        monkeypatch.setattr(compaction.tables, "write_table", write_table)
        OutcomeStore(tmp_path).compact()
        write_table(path, models, replaces=replaces)

    monkeypatch.setattr(compaction.tables, "write_table", interrupted)
    store.compact()
    assert [find(OutcomeStore(tmp_path), i) for i in range(4)] == [outcome(i) for i in range(4)]
    assert len(list(tmp_path.iterdir())) == 1


def test_readers_go_on_while_files_are_replaced(tmp_path):
    writer, reader, other = (OutcomeStore(tmp_path) for _ in range(3))
    for i in range(6):
        writer.add(f"k{i}", "g", "s", [outcome(i)])
    assert find(reader, 0, "k0") == outcome(0)
    for i in range(1, 6):
        other.compact()
        assert find(reader, i, f"k{i}") == outcome(i)
        writer.add(f"more{i}", "g", "s", [outcome(i)])


@pytest.mark.parametrize("steps", range(1, 14))
def test_killed_between_any_two_steps(tmp_path, steps):
    """Die before the n-th change of the folder: all rows are there before and after the next compaction, once each."""
    store = OutcomeStore(tmp_path)
    for run in range(4):
        store.add("k", "g", "s", [outcome(run)])
        store.begin("k", "g", ["never", "done"])
        if run == 0:
            store.compact()
        store.close()
    script = """
import os, sys
from pathlib import Path
from evomerge.evaluation import OutcomeStore
left = int(sys.argv[2])
def dying(change):
    def wrapped(*arguments, **options):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), 9)
        return change(*arguments, **options)
    return wrapped
Path.rename, Path.unlink, os.fsync = dying(Path.rename), dying(Path.unlink), dying(os.fsync)
OutcomeStore(Path(sys.argv[1])).compact()
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path), str(steps)], check=False)
    assert done.returncode == -signal.SIGKILL
    for _ in range(2):
        store = OutcomeStore(tmp_path)
        assert [find(store, i) for i in range(4)] == [outcome(i) for i in range(4)]
        assert store.open_batches("k", "g") == [["never", "done"]]
        store.compact()
    assert sorted(rows_on_disk(tmp_path).values()) == [1, 1, 1, 1]


def test_left_overs_go_after_an_hour(tmp_path):
    store = OutcomeStore(tmp_path)
    young, old = tmp_path / f"a{compaction.TEMPORARY}", tmp_path / f"b{compaction.TEMPORARY}"
    for path in (young, old):
        path.write_text("")
    os.utime(old, (time.time() - 4000,) * 2)
    store.add("k", "g", "s", [outcome(1)])
    store.compact()
    assert young.exists()
    assert not old.exists()


KEYS = st.sampled_from("abc")
NUMBERS = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.just("add"), NUMBERS, KEYS, st.lists(NUMBERS, min_size=1, max_size=3)),
    st.tuples(st.just("begin"), NUMBERS, KEYS, st.lists(NUMBERS, min_size=1, max_size=3)),
    st.tuples(st.sampled_from(["compact", "open", "tear"]), NUMBERS, KEYS, st.none()),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=20))
def test_any_order_of_steps(tmp_path_factory, steps):
    """Two writers, any of whom may add, compact, or die in mid-line, beside two dictionaries."""
    folder = tmp_path_factory.mktemp("store")
    stores = [OutcomeStore(folder), OutcomeStore(folder)]
    added, begun = {}, {}
    for number, (step, writer, key, items) in enumerate(steps):
        which = writer % 2
        if step == "add":
            stores[which].add(key, "g", "s", [outcome(i, key) for i in items])
            added.update({(key, i): outcome(i, key) for i in items})
        elif step == "begin":
            stores[which].begin(key, "g", [f"{i:016x}" for i in items])
            begun.setdefault((key, tuple(items)))
        elif step == "compact":
            stores[which].compact()
        else:
            stores[which] = OutcomeStore(folder)
            if step == "tear":
                line = '{"key":"a","generation":"g","scoring":"s","outco'
                (folder / f"{number}.jsonl").write_text(f'{{"version": 2}}\n{line}')
    known = OutcomeStore(folder)
    for key in "abc":
        assert [find(known, i, key) for i in range(8)] == [added.get((key, i)) for i in range(8)]
        opened = {items for of, items in begun if of == key and not all((key, i) in added for i in items)}
        found = known.open_batches(key, "g")
        assert sorted(found) == sorted([f"{i:016x}" for i in items] for items in opened)


WRITER = """
import sys
from pathlib import Path
from evomerge.evaluation import Outcome, OutcomeStore
store = OutcomeStore(Path(sys.argv[1]))
name, compacting = sys.argv[2], sys.argv[3] == "compact"
for block in range(10**6):
    rows = [Outcome("t", f"{name}:{block}:{i}", 1.0, 1, False, "\\ud83d" * 200, f"{i}") for i in range(5)]
    key = f"{name}{block % 7}"
    store.begin(key, "g", [f"{i}" for i in range(6)])
    store.add(key, "g", "s", rows)
    print(block, flush=True)
    if compacting and block % 5 == 4:
        store.compact()
"""


def test_kills_at_any_moment(tmp_path):
    """Two writers at once, one or both of which compact all the time, killed again and again at random moments.

    Each block that was acknowledged is there, each block is whole, and nothing else is there.
    """
    rng = random.Random(4)
    told = {}
    for attempt in range(5):
        processes = {}
        for name, mode in ((f"a{attempt}", "compact"), (f"b{attempt}", ("write", "compact")[attempt % 2])):
            command = [sys.executable, "-c", WRITER, str(tmp_path), name, mode]
            processes[name] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for process in processes.values():
            assert process.stdout.readline() == "0\n"
        time.sleep(rng.uniform(0.0, 1.0))
        for name, process in processes.items():
            process.send_signal(signal.SIGKILL)
            told[name] = 1 + process.stdout.read().count("\n")
            assert process.stderr.read() == ""
            process.wait()

    assert sum(told.values()) > 50
    for _ in range(2):
        store = OutcomeStore(tmp_path)
        for name, count in told.items():
            found = [
                [
                    store.get(f"{name}{block % 7}", "g", "s", "t", f"{name}:{block}:{i}", f"{i}") is not None
                    for i in range(5)
                ]
                for block in range(count + 1)
            ]
            assert found[:count] == [[True] * 5] * count
            assert found[count] in ([True] * 5, [False] * 5)  # written, but not told
            assert store.open_batches(f"{name}0", "g") == [[f"{i}" for i in range(6)]]
        store.compact()
    places = rows_on_disk(tmp_path)
    assert 5 * sum(told.values()) <= len(places) <= 5 * (sum(told.values()) + len(told))
    assert len(list(tmp_path.glob("*.jsonl"))) == 0
    assert len(tables(tmp_path)) <= 8
