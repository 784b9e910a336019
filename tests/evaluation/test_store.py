import io
import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import CandidateError, UsageError, WorkError
from evomerge.evaluation import Outcome, OutcomeStore
from evomerge.evaluation.store import outcomes as module

FIELDS = {"task": "t", "tokens": 3, "truncated": False, "answer": "é\n"}


def outcome(i: int, **more) -> Outcome:
    values = {"item": f"test:{i}", "score": i / 7, "prompt_hash": f"{i:016x}", "seconds": i / 3, "weight": i + 0.1}
    return Outcome(**{**FIELDS, **values, **more})


def find(store, i, key="k", generation="g", scoring="s", task="t"):
    return store.get(key, generation, scoring, task, f"test:{i}", f"{i:016x}")


@pytest.fixture(params=[False, True], ids=["segments", "tables"])
def settled(request):
    """Write a store's outcomes to where they lie while a run goes on, or where they lie after it."""

    def settle(store):
        if request.param:
            store.compact()
            assert not list(store.directory.glob("*.jsonl"))

    return settle


def test_what_was_added_is_found_again(tmp_path, settled):
    store = OutcomeStore(tmp_path / "outcomes")
    rows = [outcome(i, strict=0.0, flexible=1.0) for i in range(5)]
    store.add("k", "g", "s", rows[:3])
    store.add("k", "g", "s", rows[3:])
    store.add("k", "g", "s", [])
    settled(store)
    for known in (store, OutcomeStore(tmp_path / "outcomes")):
        assert [find(known, i) for i in range(5)] == rows
        assert find(known, 1, key="other") is None
        assert find(known, 1, generation="other") is None
        assert find(known, 1, scoring="other") is None
        assert find(known, 1, task="other") is None
        assert known.get("k", "g", "s", "t", "test:2", f"{1:016x}") is None
        assert known.get("k", "g", "s", "t", "test:1", "f" * 16) is None
    store.close()


def test_many_models(tmp_path, settled):
    """More rows than a row group holds, keys of several lengths, read in an order of their own, and asked for twice."""
    store = OutcomeStore(tmp_path)
    keys = [f"{i * 7919 % 101:x}" for i in range(101)]
    for key in keys:
        store.add(key, "g", "s", [outcome(i, answer=key) for i in range(100)])
    settled(store)
    again = OutcomeStore(tmp_path)
    for key in [*sorted(keys, key=len), *keys]:
        assert find(again, 99, key=key) == outcome(99, answer=key)
    for key in ("", "0" * 9, "zz", "5a0"):
        assert find(again, 0, key=key) is None


def test_nothing_is_written_before_the_first_outcome(tmp_path):
    store = OutcomeStore(tmp_path / "outcomes")
    store.add("k", "g", "s", [])
    assert store.open_batches("k", "g") == []
    store.compact()
    store.close()
    assert not (tmp_path / "outcomes").exists()


def test_the_first_outcome_stays(tmp_path, settled):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    store.add("k", "g", "s", [outcome(1, answer="later")])
    settled(store)
    assert find(store, 1) == find(OutcomeStore(tmp_path), 1) == outcome(1)


def test_the_first_writer_wins_whoever_compacts(tmp_path):
    first, second, third = (OutcomeStore(tmp_path) for _ in range(3))
    for store, answer in ((first, "first"), (second, "second"), (third, "third")):
        store.add("k", "g", "s", [outcome(1, answer=answer)])
    for store in (OutcomeStore(tmp_path), second, OutcomeStore(tmp_path)):
        assert find(OutcomeStore(tmp_path), 1).answer == "first"
        store.compact()
    assert find(OutcomeStore(tmp_path), 1).answer == "first"


def test_writers_have_files_of_their_own(tmp_path):
    first, second = OutcomeStore(tmp_path), OutcomeStore(tmp_path)
    first.add("k", "g", "s", [outcome(1)])
    second.add("k", "g", "s", [outcome(2)])
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    both = OutcomeStore(tmp_path)
    assert (find(both, 1), find(both, 2)) == (outcome(1), outcome(2))


def test_another_writers_outcomes_are_seen_when_a_model_is_first_asked_for(tmp_path):
    first, second = OutcomeStore(tmp_path), OutcomeStore(tmp_path)
    first.add("a", "g", "s", [outcome(1)])
    assert find(second, 1, key="a") == outcome(1)
    first.add("b", "g", "s", [outcome(2)])
    assert find(second, 2, key="b") == outcome(2)
    first.add("c", "g", "s", [outcome(3)])
    first.compact()
    assert find(second, 3, key="c") == outcome(3)


def test_a_model_is_looked_for_again(tmp_path):
    first, second = OutcomeStore(tmp_path), OutcomeStore(tmp_path)
    assert find(second, 1, key="a") is None
    first.add("a", "g", "s", [outcome(1)])
    assert find(second, 1, key="a") is None
    second.look_again("a")
    assert find(second, 1, key="a") == outcome(1)


def test_models_that_fell_out_of_memory_are_read_again(tmp_path, monkeypatch, settled):
    monkeypatch.setattr(module, "KEPT_ROWS", 10)
    store = OutcomeStore(tmp_path)
    for i in range(30):
        assert find(store, i, key=f"k{i}") is None
        store.add(f"k{i}", "g", "s", [outcome(i), outcome(i + 1)])
    assert len(store._models) <= 6
    settled(store)
    assert all(find(store, i, key=f"k{i}") == outcome(i) for i in range(30))
    assert len(store._models) <= 6


def test_response_under_another_task_or_scoring(tmp_path, settled):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    store.add("k", "g", "s2", [outcome(1, task="u", score=0.5)])
    settled(store)
    for known in (store, OutcomeStore(tmp_path)):
        assert known.response("k", "g", f"{1:016x}") == outcome(1)
        assert known.response("k", "g2", f"{1:016x}") is None
        assert known.response("k2", "g", f"{1:016x}") is None
        assert known.response("k", "g", f"{2:016x}") is None
        assert find(known, 1, scoring="s2", task="u").score == 0.5


def test_open_batches(tmp_path, settled):
    store = OutcomeStore(tmp_path)
    hashes = [f"{i:016x}" for i in range(9)]
    store.begin("k", "g", hashes[:3])
    store.add("k", "g", "s", [outcome(0), outcome(1), outcome(2)])
    store.begin("k", "g", hashes[3:6])
    store.add("k", "g", "s", [outcome(4)])
    store.begin("k", "g", hashes[2:4])
    store.begin("k", "g", hashes[3:6])
    store.begin("k", "other", hashes[6:])
    expected = [hashes[3:6], hashes[2:4]]
    assert store.open_batches("k", "g") == expected
    settled(store)
    for known in (store, OutcomeStore(tmp_path)):
        assert known.open_batches("k", "g") == expected
        assert known.open_batches("k", "other") == [hashes[6:]]
        assert known.open_batches("k2", "g") == []
    store.add("k", "g", "s2", [outcome(3), outcome(5)])
    settled(store)
    for known in (store, OutcomeStore(tmp_path)):
        assert known.open_batches("k", "g") == []


def test_read_also(tmp_path, settled):
    old = OutcomeStore(tmp_path / "old")
    old.add("k", "g", "s", [outcome(1), outcome(3)])
    old.begin("k", "g", ["a", "b"])
    store = OutcomeStore(tmp_path / "new", read_also=[tmp_path / "old", tmp_path / "none"])
    assert find(store, 1) == outcome(1)
    store.add("k", "g", "s", [outcome(2)])
    store.add("k", "g", "s2", [outcome(1)])
    settled(store)
    settled(old)
    store = OutcomeStore(tmp_path / "new", read_also=[tmp_path / "old", tmp_path / "none"])
    assert (find(store, 1), find(store, 2)) == (outcome(1), outcome(2))
    assert store.response("k", "g", f"{3:016x}") == outcome(3)
    assert store.open_batches("k", "g") == []
    assert find(OutcomeStore(tmp_path / "old"), 2) is None
    assert find(OutcomeStore(tmp_path / "new"), 3) is None


def test_this_runs_outcomes_come_before_those_of_others(tmp_path):
    OutcomeStore(tmp_path / "old").add("k", "g", "s", [outcome(1, answer="theirs")])
    OutcomeStore(tmp_path / "new").add("k", "g", "s", [outcome(1)])
    assert find(OutcomeStore(tmp_path / "new", read_also=[tmp_path / "old"]), 1) == outcome(1)


HALF = "\ud83d", "\ude00", "\ud83d\ude00", "a\udcff", "\x00", "\u2028\r\n", '"\\', "?"
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ANSWERS = st.text(st.characters(exclude_categories=[]), max_size=20) | st.sampled_from(HALF)


@settings(max_examples=60, deadline=None)
@given(
    names=st.tuples(NAMES, NAMES, NAMES, NAMES, NAMES, NAMES),
    answers=st.lists(ANSWERS, min_size=1, max_size=4),
    numbers=st.tuples(NUMBERS, NUMBERS, NUMBERS | st.none(), NUMBERS | st.none()),
    tokens=st.integers(0, 2**62),
)
def test_anything_a_model_says_is_kept_exactly(tmp_path_factory, names, answers, numbers, tokens):
    """Half surrogate pairs, two halves that are no pair, control characters, any number."""
    key, generation, scoring, task, item, prompt_hash = names
    score, seconds, strict, flexible = numbers
    rows = [
        Outcome(task, f"{item}{i}", score, tokens, True, answer, prompt_hash, strict, flexible, seconds, 2.0)
        for i, answer in enumerate(answers)
    ]
    folder = tmp_path_factory.mktemp("store")
    store = OutcomeStore(folder)
    store.add(key, generation, scoring, rows)
    for _ in range(2):
        known = OutcomeStore(folder)
        assert [known.get(key, generation, scoring, task, row.item, prompt_hash) for row in rows] == rows
        store.compact()


@pytest.mark.parametrize("field", ["score", "strict", "flexible", "seconds", "weight"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_is_refused(tmp_path, field, value):
    store = OutcomeStore(tmp_path)
    with pytest.raises(CandidateError, match="task t, item test:1: the score is not a finite number"):
        store.add("k", "g", "s", [outcome(0), outcome(1, **{field: value})])
    assert find(store, 0) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", ["task", "item", "prompt_hash"])
def test_names_that_are_not_unicode_are_refused(tmp_path, field):
    with pytest.raises(UsageError, match="not valid Unicode"):
        OutcomeStore(tmp_path).add("k", "g", "s", [outcome(1, **{field: "\udcff"})])


@pytest.mark.parametrize("cut", [1, 2, 40, 100])
def test_torn_last_line_is_ignored(tmp_path, cut):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    store.add("k", "g", "s", [outcome(2), outcome(3)])
    (path,) = tmp_path.glob("*.jsonl")
    path.write_bytes(path.read_bytes()[:-cut])
    again = OutcomeStore(tmp_path)
    assert [find(again, i) for i in (1, 2, 3)] == [outcome(1), None, None]  # of a block all or nothing
    again.add("k", "g", "s", [outcome(2)])
    again.compact()
    assert [find(OutcomeStore(tmp_path), i) for i in (1, 2, 3)] == [outcome(1), outcome(2), None]


def test_a_line_that_another_writer_finishes_later(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    (path,) = tmp_path.glob("*.jsonl")
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    again = OutcomeStore(tmp_path)
    assert find(again, 1, key="other") is None
    path.write_bytes(data)
    assert find(again, 1) == outcome(1)


def test_a_file_cut_within_its_first_line(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"vers')
    assert find(OutcomeStore(tmp_path), 1) is None


HEAD = '"key":"k","generation":"g"'


@pytest.mark.parametrize("line", ["{}", "[1]", "", "no json", '{"key":"k"}', '{"key":k,"generation":"g"}'])
def test_damage_in_the_middle_is_named(tmp_path, line):
    (tmp_path / "x.jsonl").write_text(f'{{"version": 2}}\n{line}\n')
    with pytest.raises(UsageError, match="x.jsonl is damaged"):
        OutcomeStore(tmp_path)


@pytest.mark.parametrize(
    "rest",
    ["", ',"scoring":"s"', ',"scoring":"s","outcomes":[{"task":"t"}]', ',"scoring":"s","outcomes":[1]', ',"begun":1'],
)
def test_damage_within_a_line_is_named_when_it_is_needed(tmp_path, rest):
    (tmp_path / "x.jsonl").write_text(f'{{"version": 2}}\n{{{HEAD}{rest}}}\n')
    store = OutcomeStore(tmp_path)
    assert find(store, 1, key="other") is None
    with pytest.raises(UsageError, match="x.jsonl is damaged"):
        find(store, 1)
    with pytest.raises(UsageError, match="damaged"):
        store.compact()
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_table_is_named(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(i, answer="abcdefgh" * 5) for i in range(100)])
    store.compact()
    (path,) = tmp_path.iterdir()
    data = path.read_bytes()
    for damage in (data[:-9], data[: len(data) // 2], b"", b"PAR1" + b"\0" * 100):
        path.write_bytes(damage)
        with pytest.raises(UsageError, match="parquet is damaged"):
            OutcomeStore(tmp_path)
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    places = range(4, sum(group.column(i).total_compressed_size for i in range(group.num_columns)), 17)
    refused = 0
    for at in places:  # bits that flip in a row group are seen, unless they say nothing
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
        try:
            assert find(OutcomeStore(tmp_path), 1) == outcome(1, answer="abcdefgh" * 5)
        except UsageError as error:
            refused += "parquet is damaged" in str(error)
    assert refused > 0.8 * len(places)


@pytest.mark.parametrize("version", ["1", "99", "null"])
def test_other_version(tmp_path, version):
    (tmp_path / "x.jsonl").write_text(f'{{"version": {version}}}\n')
    with pytest.raises(UsageError, match="x.jsonl: version .* is not the 2 this evomerge reads; remove it"):
        OutcomeStore(tmp_path)


def test_the_files_carry_their_version(tmp_path):
    store = OutcomeStore(tmp_path)
    store.add("k", "g", "s", [outcome(1)])
    (path,) = tmp_path.glob("*.jsonl")
    assert json.loads(path.read_text().split("\n")[0]) == {"version": 2}


def test_full_disk(tmp_path):
    """With a file size limit in the place of a full disk: a clear error, and what was there before is kept whole."""
    script = """
import resource, signal, sys
from pathlib import Path
from evomerge.errors import WorkError
from evomerge.evaluation import Outcome, OutcomeStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = OutcomeStore(Path(sys.argv[1]))
for limit in (5, 50):  # not even the first line, and no more than that
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, 3000))
    try:
        store.add("k", "g", "s", [Outcome("t", "test:0", 0.0, 1, False, "", "0")])
    except WorkError:
        pass
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
try:
    for i in range(100):
        store.add("k", "g", "s", [Outcome("t", f"test:{i}", i / 7, 1, False, "x" * 100, f"{i:016x}")])
except WorkError as error:
    print(i, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 3000))
try:
    store.compact()
except WorkError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    count, message = first.split(" ", 1)
    assert "cannot be written" in message
    assert "cannot be written" in second
    assert not list(tmp_path.glob("*.parquet*")) + list(tmp_path.glob("*.new"))
    store = OutcomeStore(tmp_path)
    found = [find(store, i) is not None for i in range(100)]
    assert found == [True] * int(count) + [False] * (100 - int(count))
    assert int(count) > 2


def test_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkError, match="cannot be"):
        OutcomeStore(tmp_path / "file" / "outcomes").add("k", "g", "s", [outcome(1)])


def test_file_that_stays_away(tmp_path, monkeypatch):
    """Listed, but not there: as on a network file system that is late, only that it never comes."""
    monkeypatch.setattr(module, "_TRIES", 2)
    (tmp_path / "x.jsonl").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WorkError, match="x.jsonl: outcomes cannot be read: No such file"):
        OutcomeStore(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_file_that_cannot_be_read(tmp_path):
    (tmp_path / "x.jsonl").write_text("")
    (tmp_path / "x.jsonl").chmod(0)
    with pytest.raises(WorkError, match="cannot be read"):
        OutcomeStore(tmp_path)
