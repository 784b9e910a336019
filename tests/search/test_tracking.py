"""What a tracker is told: every model once, in order, however often the search is stopped."""

import json

import pytest

from evomerge.errors import UsageError
from evomerge.reporting.trackers import create
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory
from evomerge.search.record import Record
from evomerge.search.results import front, mean_normalised, selected
from evomerge.search.tracking import Tracking, flat
from tests.search.test_config import composed
from tests.search.test_loop import FormulaPool, StoppedError, configuration, whole


class Notebook:
    """A tracker that keeps what it is told."""

    def __init__(self, fails_at=None):
        self.runs, self.lines, self.ended, self.fails_at = [], [], 0, fails_at

    def start(self, run):
        self.runs.append(run)

    def log(self, step, values):
        if step == self.fails_at:
            raise ConnectionError("no network")
        self.lines.append((step, dict(values)))

    def end(self):
        self.ended += 1


def tracking(path, notebook, name="notebook"):
    return Tracking(notebook, name, directory=RunDirectory(path), config={"seed": 0, "tasks": {"a": {"k": [1, 2]}}})


def test_every_model_is_told_once_with_its_scores(tmp_path):
    notebook = Notebook()
    observer = tracking(tmp_path, notebook)
    pool = FormulaPool(fail=lambda number: number == 9)
    record, _ = whole(tmp_path, watch=observer, pool=pool)
    observer.close(record)
    (run,) = notebook.runs
    assert (run.name, run.folder, run.resumed) == (tmp_path.name, tmp_path, False)
    assert run.settings == {"seed": 0, "tasks.a.k": "[1, 2]"}
    *lines, last = notebook.lines
    told = [record.trials[number] for what, number in record.order if what == "tell"]
    assert [step for step, _ in notebook.lines] == [*range(1, len(told) + 1), len(told)]
    best = None
    for trial, (_, values) in zip(told, lines, strict=True):
        assert values["trial"] == trial.number
        if trial.failure:
            assert "search/a" not in values
            continue
        assert [values["search/a"], values["search/b"]] == [score.mean for score in trial.scores["search"].values()]
        if trial.kind == "candidate":
            best = max(best or -1, mean_normalised(record, trial, "search"))
            assert values["mean normalised"] == mean_normalised(record, trial, "search")
            assert values["best so far"] == best
        else:
            assert "best so far" not in values
    assert lines[-1][1]["failed"] == 1
    chosen = selected(record)[0]
    assert last[1] == {
        "selection/a": chosen.scores["selection"]["a"].mean,
        "selection/b": chosen.scores["selection"]["b"].mean,
        "selection/mean normalised": mean_normalised(record, chosen, "selection"),
        "front": len(front(record)),
    }
    assert notebook.ended == 1


def test_a_run_that_goes_on_is_told_from_where_it_was(tmp_path):
    first, second = Notebook(), Notebook()
    observer = tracking(tmp_path, first)

    def stop(record: Record):
        observer(record)
        if len(record.trials) == 12:
            raise StoppedError

    with pytest.raises(StoppedError):
        whole(tmp_path, watch=stop)
    record, _ = whole(tmp_path, watch=tracking(tmp_path, second))
    steps = [step for notebook in (first, second) for step, _ in notebook.lines]
    assert steps == list(range(1, len(record.trials) + 1))
    assert [run.resumed for run in (*first.runs, *second.runs)] == [False, True]
    assert first.runs[0].id == second.runs[0].id
    assert second.lines[-1][1]["best so far"] == max(
        mean_normalised(record, trial, "search") for trial in record.candidates
    )


def test_another_tracker_is_told_everything_under_another_id(tmp_path):
    one, other = Notebook(), Notebook()
    record, _ = whole(tmp_path, watch=tracking(tmp_path, one))
    tracking(tmp_path, other, name="other")(record)
    assert other.lines == one.lines
    assert other.runs[0].id != one.runs[0].id
    assert not other.runs[0].resumed
    assert json.loads((tmp_path / "tracker.json").read_text())["tracker"] == "other"


def test_what_a_tracker_missed_is_not_told_later_out_of_order(tmp_path):
    notebook = Notebook(fails_at=3)
    observer, raised = tracking(tmp_path, notebook), []

    def watch(record):
        try:
            observer(record)
        except ConnectionError as error:
            raised.append(error)

    record, _ = whole(tmp_path, watch=watch)
    assert len(raised) == 1
    assert [step for step, _ in notebook.lines] == [1, 2, *range(4, len(record.trials) + 1)]
    assert [values["trial"] for _, values in notebook.lines] == [step - 1 for step, _ in notebook.lines]


def test_a_tracker_that_cannot_be_reached_is_asked_once(tmp_path):
    class Unreachable(Notebook):
        def start(self, run):
            super().start(run)
            raise ConnectionError("no network")

    notebook = Unreachable()
    observer, raised = tracking(tmp_path, notebook), []

    def watch(record):
        try:
            observer(record)
        except ConnectionError as error:
            raised.append(error)

    record, _ = whole(tmp_path, watch=watch)
    observer.close(record)
    assert (len(raised), len(notebook.runs), notebook.lines, notebook.ended) == (1, 1, [], 0)
    assert not (tmp_path / "tracker.json").exists()


def test_a_damaged_note_of_what_was_told_begins_anew(tmp_path):
    (tmp_path / "tracker.json").write_text("{torn")
    notebook = Notebook()
    whole(tmp_path, watch=tracking(tmp_path, notebook))
    assert [run.resumed for run in notebook.runs] == [False]


def test_flat_leaves_out_what_is_null():
    assert flat({"a": {"b": 1, "c": None}, "d": [1, "x"], "e": True}) == {"a.b": 1, "d": '[1, "x"]', "e": True}


@pytest.mark.parametrize("name", ["none", "trackio", "wandb", "mlflow", "tensorboard"])
def test_the_options_in_conf_are_those_of_the_tracker(name):
    """Every option there is one that the tracker takes, with the default that it has."""
    choice = SearchConfig.from_dict(composed(f"tracker={name}")).tracker
    assert choice.name == name
    if name != "none":
        pytest.importorskip({"tensorboard": "tensorboard"}.get(name, name))
    made, plain = create(name, choice.options), create(name, {})
    for key in choice.options:
        assert getattr(made, key) == getattr(plain, key)


def test_a_run_from_before_there_were_trackers_has_none():
    data = composed()
    del data["tracker"]
    assert SearchConfig.from_dict(data).tracker.name == "none"
    assert configuration().tracker.name == "none"


def test_a_word_that_is_no_tracker_is_refused():
    with pytest.raises(UsageError, match="did you mean 'wandb'"):
        create("wanbd", {})
    with pytest.raises(UsageError, match=r"tracker\.options: unknown key 'projekt'"):
        create("trackio", {"projekt": "x"})
