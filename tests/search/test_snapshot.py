"""With a snapshot, without one, or with a wrong one: a search goes on as if nothing had happened."""

import json
from contextlib import closing

import numpy as np
import pytest

from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.search.ledger import Ledger
from evomerge.search.snapshot import INTERVAL, Snapshots
from evomerge.search.workers.simulated import SimulatedPool, Weather, no_time
from tests.search.test_loop import (
    ONE_STAGE,
    RACING,
    STAGES,
    FormulaPool,
    StoppedError,
    configuration,
    whole,
)

FACTS = {"seed": 1}
BEGIN = {"event": "begin", "version": 4}


class Interrupted(FormulaPool):
    """Is interrupted while a result is waited for."""

    def __init__(self, after, **options):
        super().__init__(**options)
        self.after = after

    def poll(self, timeout=None):
        self.after -= 1
        if self.after < 0:
            raise StoppedError
        return super().poll(timeout)


@pytest.fixture
def asked_again(monkeypatch):
    """The proposals that were replayed."""
    numbers = []
    replay = ReplayedOptimizer.replay
    monkeypatch.setattr(ReplayedOptimizer, "replay", lambda self, p: (numbers.append(p.number), replay(self, p))[1])
    return numbers


@pytest.mark.parametrize("what", ["with", "without", "damaged", "of another ledger"])
@pytest.mark.parametrize(
    ("optimizer", "stages", "racing"),
    [("random", ONE_STAGE, {"enabled": False}), ("cmaes", STAGES, RACING), ("m2n2", STAGES, RACING)],
)
def test_interrupted_anywhere_it_ends_as_if_undisturbed(tmp_path, optimizer, stages, racing, what, asked_again):
    config = configuration(optimizer={"name": optimizer, "scalarization": "weighted_sum", "options": {}}, racing=racing)
    (tmp_path / "undisturbed").mkdir()
    _, undisturbed = whole(tmp_path / "undisturbed", config=config, stages=stages)
    for moment in (9, 13, 17):
        path = tmp_path / str(moment)
        path.mkdir()
        with pytest.raises(StoppedError):
            whole(path, config=config, pool=Interrupted(moment), stages=stages)
        snapshot = path / "snapshot.npz"
        assert snapshot.exists()
        if what == "without":
            snapshot.unlink()
        if what == "damaged":
            data = bytearray(snapshot.read_bytes())
            data[len(data) // 3] ^= 255
            snapshot.write_bytes(data)
        if what == "of another ledger":
            other = tmp_path / f"{moment}-other"
            other.mkdir()
            with pytest.raises(StoppedError):
                whole(other, config=config, pool=Interrupted(moment, fail=lambda number: number == 6), stages=stages)
            snapshot.write_bytes((other / "snapshot.npz").read_bytes())
        asked_again.clear()
        _, lines = whole(path, config=config, stages=stages)
        assert lines == undisturbed
        assert bool(asked_again) == (what != "with")


def test_what_came_after_the_snapshot_is_replayed(tmp_path, asked_again):
    config = configuration()
    (tmp_path / "undisturbed").mkdir()
    _, undisturbed = whole(tmp_path / "undisturbed", config=config)
    with pytest.raises(StoppedError):
        whole(tmp_path, config=config, pool=Interrupted(10))
    snapshot = (tmp_path / "snapshot.npz").read_bytes()
    with pytest.raises(StoppedError):
        whole(tmp_path, config=config, pool=Interrupted(4))
    (tmp_path / "snapshot.npz").write_bytes(snapshot)  # as if the process had been killed
    asked_again.clear()
    _, lines = whole(tmp_path, config=config)
    assert lines == undisturbed
    assert 0 < len(asked_again) < 6


def test_many_workers_that_come_and_go(tmp_path):
    """With several workers a resumed search equals the replay of its own record, by either way."""
    answers = FormulaPool()

    def fleet(seed):
        pool = SimulatedPool(answers.score, weather=Weather(preempted=2000.0), seed=seed, clock=no_time, items=40)
        pool.start(None, [f"w{i}" for i in range(30)], print)
        return pool

    config = configuration(
        optimizer={"name": "cmaes", "scalarization": "weighted_sum", "options": {}},
        budget={"candidates": 200, "items": None, "seconds": None},
    )

    first = tmp_path / "first"
    first.mkdir()
    pool = fleet(1)
    poll = pool.poll

    def interrupted(timeout=None):
        if pool.counts.jobs > 120:
            raise StoppedError
        return poll(timeout)

    pool.poll = interrupted
    with pytest.raises(StoppedError):
        whole(first, config=config, pool=pool)
    lines = []
    for name in ("with", "without"):
        path = tmp_path / name
        path.mkdir()
        for file in ("ledger.jsonl", "snapshot.npz"):
            (path / file).write_bytes((first / file).read_bytes())
        if name == "without":
            (path / "snapshot.npz").unlink()
        record, found = whole(path, config=config, pool=fleet(2))
        lines.append(found)
        assert record.totals.told["candidate"] == 200
    assert lines[0] == lines[1]


def test_one_is_read_only_where_everything_fits(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append(BEGIN)
        ledger.append({"event": "stage", "stage": 1})
        snapshots = Snapshots(ledger)
        assert snapshots.read(FACTS) is None
        state = {"a": [1, 2.5, None, "x"], "b": {"c": np.arange(6.0).reshape(2, 3).T, "d": np.array([1], np.int32)}}
        snapshots.write(state, FACTS)
        found = snapshots.read(FACTS)
        assert found["a"] == state["a"]
        for key in ("c", "d"):
            assert found["b"][key].dtype == state["b"][key].dtype
            assert found["b"][key].flags.f_contiguous == state["b"][key].flags.f_contiguous
            assert np.array_equal(found["b"][key], state["b"][key])
        assert snapshots.read({"seed": 2}) is None
        ledger.append({"event": "stage", "stage": 2})
        assert snapshots.read(FACTS) is not None, "what is new in the ledger is replayed"
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    for other in (lines[:1], [lines[0], lines[1].replace("1", "3"), lines[2]]):
        (tmp_path / "ledger.jsonl").write_text("\n".join(other) + "\n")
        with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
            assert Snapshots(ledger).read(FACTS) is None


def test_one_of_another_version_or_library_is_left_alone(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append(BEGIN)
        snapshots = Snapshots(ledger)
        snapshots.write({"a": 1}, FACTS)
        with np.load(snapshots.path) as archive:
            data = json.loads(archive["text"].tobytes())
        changes = ({"version": 0}, {"evomerge": "0.0"}, {"libraries": {**data["libraries"], "cma": "1.0"}}, {"size": 1})
        for change in ({}, *changes):
            text = json.dumps({**data, **change}).encode()
            np.savez(snapshots.path, text=np.frombuffer(text, dtype=np.uint8))
            assert (snapshots.read(FACTS) is not None) == (not change)
        for text in (b"[]", b"{}", b"no JSON"):
            np.savez(snapshots.path, text=np.frombuffer(text, dtype=np.uint8))
            assert snapshots.read(FACTS) is None


def test_objects_do_not_get_in_or_out(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append(BEGIN)
        snapshots = Snapshots(ledger)
        with pytest.raises(TypeError, match="plain"):
            snapshots.write({"a": np.array([{}], dtype=object)}, FACTS)
        np.savez(snapshots.path, text=np.array([{}], dtype=object))
        assert snapshots.read(FACTS) is None


def test_they_are_written_now_and_then_and_never_for_long(tmp_path):
    times = iter((0.0, 59.0, 61.0, 61.0, 63.0, 300.0, 470.0))
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append(BEGIN)
        snapshots = Snapshots(ledger, clock=lambda: next(times))
        assert INTERVAL == 60.0
        assert [snapshots.due(), snapshots.due()] == [False, True]
        snapshots.write({}, FACTS)  # takes two seconds: the next one after four hundred
        assert [snapshots.due(), snapshots.due()] == [False, True]


def test_a_full_disk_ends_no_search(tmp_path):
    with closing(Ledger(tmp_path / "ledger.jsonl")) as ledger:
        ledger.append(BEGIN)
        snapshots = Snapshots(ledger)
        snapshots.path = tmp_path / "nowhere" / "snapshot.npz"
        snapshots.write({"a": 1}, FACTS)
        assert snapshots.read(FACTS) is None
