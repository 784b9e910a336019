"""The mirror of real searches (over workers that score by a formula): equal to the record, however often it is stopped,
and served by optuna-dashboard."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from evomerge.search.mirror import Mirror
from evomerge.search.record import Record
from evomerge.search.results import joined_interval, selected
from tests.search.records import RIGHT, answers, record
from tests.search.test_loop import ONE_STAGE, RACING, SPACE, STAGES, FormulaPool, StoppedError, configuration, whole


def mirror(path, stages=ONE_STAGE):
    return Mirror(path / "study.log", name="run", stages=[stage.space.dimensions for stage in stages])


def read(path, name="run"):
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path / "study.log"))))


def check(study, found: Record, stages=ONE_STAGE):
    """Hold a study against the record that it mirrors."""
    told = [found.trials[number] for what, number in found.order if what == "tell"]
    assert [trial.user_attrs["trial"] for trial in study.trials] == [trial.number for trial in told]
    for shown, trial in zip(study.trials, told, strict=True):
        assert shown.user_attrs["recipe"] == trial.recipe.hash
        if trial.failure:
            assert (shown.state, shown.user_attrs["failure"]) == (TrialState.FAIL, trial.failure.kind)
        elif trial.beaten_by is not None:
            assert (shown.state, shown.values) == (TrialState.PRUNED, None)
            assert shown.user_attrs["beaten by"] == trial.beaten_by
        else:
            assert shown.values == [score.mean for score in trial.scores["search"].values()]
        if trial.vector is None:
            assert shown.params == {}
            continue
        dimensions = stages[trial.stage].space.dimensions
        assert shown.params == {d.name: d.value(u) for d, u in zip(dimensions, trial.vector, strict=True)}


@pytest.mark.parametrize(
    ("stages", "racing", "fail"),
    [
        (ONE_STAGE, {"enabled": False}, ()),
        (STAGES, {"enabled": False}, (8, 11)),
        (ONE_STAGE, RACING, ()),
    ],
    ids=["plain", "stages and failures", "races"],
)
def test_it_says_what_the_record_says(tmp_path, stages, racing, fail):
    observer = mirror(tmp_path, stages)
    found, _ = whole(
        tmp_path,
        config=configuration(racing=racing, budget={"candidates": 20, "items": None, "seconds": None}),
        stages=stages,
        pool=FormulaPool(fail=lambda number: number in fail),
        watch=observer,
    )
    observer.close(found)
    study = read(tmp_path)
    check(study, found, stages)
    assert study.metric_names == ["a", "b"]
    states = {trial.state for trial in study.trials}
    assert (TrialState.FAIL in states) == bool(fail)
    assert (TrialState.PRUNED in states) == racing["enabled"]
    best = selected(found)[0]
    assert study.user_attrs["best"] == best.number
    joined = joined_interval(found, best, "selection")
    shown = study.user_attrs["selection"][str(best.number)]["mean normalised"]
    assert shown == [joined.mean, joined.low, joined.high]


def test_a_search_stopped_at_any_event_leaves_a_mirror_that_goes_on(tmp_path):
    whole(tmp_path)
    events = (tmp_path / "ledger.jsonl").read_bytes().count(b"\n")
    for moment in range(2, events, 13):
        path = tmp_path / str(moment)
        path.mkdir()
        observer = mirror(path)

        def stop(found, path=path, observer=observer, moment=moment):
            observer(found)
            if (path / "ledger.jsonl").read_bytes().count(b"\n") == moment:
                raise StoppedError

        with pytest.raises(StoppedError):
            whole(path, watch=stop)
        before = (path / "study.log").read_bytes() if (path / "study.log").exists() else b""
        found, _ = whole(path, watch=mirror(path))
        check(read(path), found)
        assert (path / "study.log").read_bytes().startswith(before)


def test_a_lost_mirror_is_made_anew_from_the_ledger_alone(tmp_path):
    found, _ = whole(tmp_path, watch=mirror(tmp_path))
    first = [(trial.values, trial.params, trial.user_attrs) for trial in read(tmp_path).trials]
    (tmp_path / "study.log").unlink()
    again = mirror(tmp_path)
    again(found)
    assert [(trial.values, trial.params, trial.user_attrs) for trial in read(tmp_path).trials] == first


def test_what_could_not_be_written_is_there_after_the_next_event(tmp_path):
    observer, failed = mirror(tmp_path), []

    def watch(found):
        path = tmp_path / "study.log"
        if len(found.trials) == 9:  # a folder where the file should be
            if path.is_file():
                path.unlink()
            path.mkdir(exist_ok=True)
        elif path.is_dir():
            path.rmdir()
        try:
            observer(found)
        except OSError as error:
            failed.append(error)

    found, _ = whole(tmp_path, watch=watch)
    assert failed
    check(read(tmp_path), found)


def test_floors_are_constraints(tmp_path):
    model = {"search": {"a": answers(3, wrong=1), "b": [RIGHT] * 4}}
    found = record(*[model] * 6)
    assert found.begin is not None
    found.begin["objectives"]["a"] = {"weight": 1.0, "floor": 0.8}
    mirror(tmp_path)(found)
    assert all(trial.constraints == {"a at least 0.8": pytest.approx(0.05)} for trial in read(tmp_path).trials)


def test_before_the_first_score_there_is_no_study(tmp_path):
    observer = mirror(tmp_path)
    observer(Record())
    observer.close(Record())
    assert not (tmp_path / "study.log").exists()


@pytest.mark.slow
def test_optuna_dashboard_serves_it(tmp_path):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed")
    found, _ = whole(tmp_path, watch=mirror(tmp_path))
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [Path(sys.executable).with_name("optuna-dashboard"), "--port", str(port), tmp_path / "study.log"]
    if not command[0].exists():
        command = [sys.executable, "-c", "import sys; from optuna_dashboard._cli import main; main()", *command[1:]]
    server = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=tmp_path
    )
    try:
        (summary,) = ask(port, "/api/studies")["study_summaries"]
        assert summary["study_name"] == "run"
        shown = ask(port, f"/api/studies/{summary['study_id']}?after=0")
    finally:
        server.terminate()
        server.wait(10)
    assert shown["objective_names"] == ["a", "b"]
    assert len(shown["trials"]) == len(found.trials)
    values = {trial["number"]: trial["values"] for trial in shown["trials"]}
    assert values == {n: [s.mean for s in t.scores["search"].values()] for n, t in found.trials.items()}
    assert {p["name"] for p in shown["intersection_search_space"]} <= {d.name for d in SPACE.dimensions}


def ask(port: int, path: str, patience: float = 60):
    """Ask the dashboard's own interface, which takes seconds to come up."""
    end = time.monotonic() + patience
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
