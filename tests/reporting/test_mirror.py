"""The journal file, read back by Optuna itself: what is in it, when it goes on, and when it is made anew."""

import os
import time

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from evomerge.reporting.mirror import NUMBER, MirrorTrial, Parameter, StudyFile

TRIALS = [
    MirrorTrial(0, (0.5, 0.25), notes={"kind": "base"}, seconds=2.0),
    MirrorTrial(
        2,
        (0.75, 0.5),
        parameters={"weight.x": Parameter(0.6, 0.0, 1.5), "method": Parameter("ties", choices=("ties", "dare_ties"))},
        constraints={"a at least 0.7": -0.05},
        seconds=3.0,
    ),
    MirrorTrial(1, None, parameters={"weight.x": Parameter(1.5, 0.0, 1.5)}, notes={"failure": "candidate"}),
    MirrorTrial(3, (0.1, 0.2), stopped=True, parameters={"weight.x": Parameter(0.1, 0.0, 1.5)}),
]


def write(path, trials, name="run", objectives=("a", "b")):
    return StudyFile(path, name=name, objectives=objectives, trials=trials)


def read(path, name="run"):
    return optuna.load_study(study_name=name, storage=JournalStorage(JournalFileBackend(str(path))))


@pytest.mark.parametrize("live", [0, 1, 4])
def test_optuna_reads_what_was_written_at_once_and_later(tmp_path, live):
    path = tmp_path / "study.log"
    file = write(path, TRIALS[: len(TRIALS) - live])
    for trial in TRIALS[len(TRIALS) - live :]:
        file.add(trial)
    study = read(path)
    assert study.metric_names == ["a", "b"]
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    assert [trial.user_attrs[NUMBER] for trial in study.trials] == [0, 2, 1, 3]
    assert [trial.state for trial in study.trials] == [
        *(TrialState.COMPLETE, TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED)
    ]
    assert [trial.values for trial in study.trials] == [[0.5, 0.25], [0.75, 0.5], None, None]
    assert study.trials[1].params == {"weight.x": 0.6, "method": "ties"}
    assert study.trials[1].constraints == {"a at least 0.7": -0.05}
    assert study.trials[3].user_attrs["estimates"] == [0.1, 0.2]
    assert [round(trial.duration.total_seconds(), 3) for trial in study.trials] == [2.0, 3.0, 0.0, 0.0]
    assert [trial.number for trial in study.best_trials] == [1]


def test_a_file_that_is_a_beginning_goes_on_and_keeps_what_others_wrote(tmp_path):
    path = tmp_path / "study.log"
    write(path, TRIALS[:2])
    read(path).set_user_attr("somebody's note", "look at this")
    before = path.read_bytes()
    write(path, TRIALS)
    assert path.read_bytes().startswith(before)
    assert len(read(path).trials) == 4
    again = path.read_bytes()
    write(path, TRIALS)
    assert path.read_bytes() == again


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-5]),
        lambda path: path.write_text("no journal\n"),
        lambda path: path.write_text(""),
        lambda path: write(path.with_name("other"), TRIALS[1:]) and path.with_name("other").rename(path),
        lambda path: (
            write(path.with_name("other"), TRIALS[:1], objectives=("a", "c")) and path.with_name("other").rename(path)
        ),
        lambda path: write(path.with_name("other"), TRIALS, name="another") and path.with_name("other").rename(path),
        lambda path: path.unlink(),
    ],
    ids=["torn", "nonsense", "empty", "other trials", "other objectives", "other name", "missing"],
)
def test_any_other_file_is_made_anew(tmp_path, spoil):
    path = tmp_path / "study.log"
    write(path, TRIALS)
    spoil(path)
    write(path, TRIALS[:2]).add(TRIALS[2])
    assert [trial.user_attrs[NUMBER] for trial in read(path).trials] == [0, 2, 1]
    assert read(path).metric_names == ["a", "b"]


def test_more_trials_than_the_owner_knows_are_not_kept(tmp_path):
    path = tmp_path / "study.log"
    write(path, TRIALS)
    write(path, TRIALS[:1])
    assert len(read(path).trials) == 1


def test_the_lock_of_a_killed_writer_does_not_stop_the_next(tmp_path):
    path = tmp_path / "study.log"
    write(path, TRIALS[:1])
    lock = tmp_path / "study.log.lock"
    lock.symlink_to(path)
    os.utime(lock, (time.time() - 60,) * 2, follow_symlinks=False)
    start = time.monotonic()
    write(path, TRIALS)
    assert time.monotonic() - start < 5
    assert len(read(path).trials) == 4


def test_a_fact_is_written_once(tmp_path):
    path = tmp_path / "study.log"
    file = write(path, TRIALS[:1])
    file.note("best", 2)
    size = path.stat().st_size
    file.note("best", 2)
    assert path.stat().st_size == size
    file.note("best", 3)
    assert read(path).user_attrs == {"best": 3}
