"""The real trackers, offline: what each wrote is read back from its own files."""

import json
import os
import sqlite3
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from evomerge.errors import UsageError
from evomerge.reporting.trackers import Run, create
from evomerge.reporting.trackers.base import library

LINES = [(1, {"search/a": 0.5, "seconds": 1.0}), (2, {"search/a": 0.75, "best so far": 1.5})]
MORE = [(3, {"search/a": 0.25})]
SETTINGS = {"seed": 3, "optimizer.name": "cmaes", "racing.enabled": False}

needs = {
    name: pytest.mark.skipif(find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("trackio", "wandb", "mlflow", "tensorboard")
}


def track(name, folder, options, lines, resumed=False):
    tracker = create(name, options)
    assert tracker is not None
    tracker.start(Run("abc123", "a run", folder, SETTINGS, resumed))
    for step, values in lines:
        tracker.log(step, values)
    tracker.end()


def track_elsewhere(name, folder, options, lines, resumed=False, **environment):
    """The same in a process of its own, as these libraries leave threads and processes behind."""
    program = (
        "import sys, json; from pathlib import Path; from tests.reporting.trackers.test_trackers import track; "
        "name, folder, options, lines, resumed = json.loads(sys.argv[1]); "
        "track(name, Path(folder), options, lines, resumed)"
    )
    given = json.dumps([name, str(folder), options, lines, resumed])
    done = subprocess.run(
        [sys.executable, "-c", program, given],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[3],
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
@needs["trackio"]
def test_trackio(tmp_path):
    for lines, resumed in ((LINES, False), (MORE, True)):
        track_elsewhere("trackio", tmp_path, {"project": "p"}, lines, resumed, TRACKIO_DIR=str(tmp_path / "db"))
    with sqlite3.connect(tmp_path / "db" / "p.db") as database:
        rows = database.execute("SELECT run_name, step, metrics FROM metrics ORDER BY step").fetchall()
        (config,) = database.execute("SELECT config FROM configs").fetchone()
    assert {name for name, _, _ in rows} == {"a run-abc123"}
    assert [(step, json.loads(metrics)) for _, step, metrics in rows] == [(s, v) for s, v in LINES + MORE]
    assert json.loads(config).items() >= SETTINGS.items()


@needs["mlflow"]
def test_mlflow(tmp_path):
    import mlflow

    uri = (tmp_path / "store").as_uri()
    for lines, resumed in ((LINES, False), (MORE, True)):
        track("mlflow", tmp_path, {"uri": uri, "experiment": "e"}, lines, resumed)
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("e").experiment_id])
    assert (run.info.run_name, run.info.status) == ("a run", "FINISHED")
    history = client.get_metric_history(run.info.run_id, "search/a")
    assert [(point.step, point.value) for point in history] == [(1, 0.5), (2, 0.75), (3, 0.25)]
    assert run.data.metrics["best so far"] == 1.5
    assert run.data.params == {key: str(value) for key, value in SETTINGS.items()}


@needs["mlflow"]
def test_mlflow_writes_beside_the_run_unless_told_otherwise(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track("mlflow", tmp_path, {}, LINES)
    assert (tmp_path / "mlruns").is_dir()


@needs["tensorboard"]
def test_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    for lines, resumed in ((LINES, False), (MORE, True)):
        track("tensorboard", tmp_path, {}, lines, resumed)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    points = [(event.step, event.value) for event in found.Scalars("search/a")]
    assert points == [(1, 0.5), (2, 0.75), (3, 0.25)]
    (text,) = found.Tensors("settings/text_summary")
    assert b"optimizer.name: cmaes" in text.tensor_proto.string_val[0]


@pytest.mark.slow
@needs["wandb"]
def test_wandb(tmp_path):
    for lines, resumed in ((LINES, False), (MORE, True)):
        track_elsewhere("wandb", tmp_path, {"mode": "offline", "project": "p"}, lines, resumed)
    files = sorted(tmp_path.glob("wandb/offline-run-*/run-abc123.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    history = [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    rows = [(row["_step"], {key: row[key] for key in row if not key.startswith("_")}) for row in history]
    assert rows == LINES + MORE
    (run, *_) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
    assert (run.project, run.display_name, run.run_id) == ("p", "a run", "abc123")
    config = {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in run.config.update}
    assert config.items() >= SETTINGS.items()


@pytest.mark.slow
@needs["wandb"]
def test_wandb_asks_nobody_to_log_in(tmp_path, monkeypatch):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    tracker = create("wandb", {})
    with pytest.raises(UsageError, match="nobody is logged in"):
        tracker.start(Run("abc123", "a run", tmp_path, SETTINGS))


def wandb_records(path):
    """The records of an offline run: a log in blocks of 32 KiB, each piece with checksum, length and kind."""
    from wandb.proto import wandb_internal_pb2

    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        room = 32768 - at % 32768
        if room < 7:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole record, or its last piece
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


@pytest.mark.parametrize("name", ["trackio", "wandb", "mlflow", "tensorboard"])
def test_a_missing_library_names_the_extra(name, monkeypatch):
    module = "torch.utils.tensorboard" if name == "tensorboard" else name
    monkeypatch.setitem(sys.modules, module, None)  # what Python itself does for a module that must not be imported
    with pytest.raises(UsageError, match=rf"tracker={name}: .* pip install 'evomerge\[{name}\]'"):
        create(name, {})


def test_a_library_that_is_there_is_imported():
    assert library("json", "trackio") is json


@needs["wandb"]
def test_options_are_checked():
    with pytest.raises(UsageError, match="mode: 'ofline' is none of online, offline"):
        create("wandb", {"mode": "ofline"})
    with pytest.raises(UsageError, match="write a text, not 3"):
        create("wandb", {"project": 3})
