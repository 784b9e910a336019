import fcntl

import pytest

from evomerge.errors import UsageError
from evomerge.search.page.view import SHOWN, View
from evomerge.search.results import selected
from tests.search.page.ledgers import GLOBAL, Ledger


def selection(ledger, *numbers):
    for number in numbers:
        ledger.tell(number, [0.5, 0.5, 0.5], "selection")
    return ledger


def test_a_run_is_finished_when_all_that_it_chose_is_scored(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(6)
    settings = {"selection": {"finalists": 6, "front": 0, "chosen": 1}}
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "stopped"
    selection(ledger, *range(11))
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "stopped", "one finalist is lacking"
    selection(ledger, 11)
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "finished", "as a job of a sweep is"
    ledger.events.append({"event": "report", "opening": 1, "numbers": [0, 7]})
    ledger.tell(0, [0.5] * 3, "report")
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "stopped"
    ledger.tell(7, [0.5] * 3, "report")
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "finished"
    ledger.search(1)
    assert View.open(ledger.write(tmp_path / "run", **settings)).state == "stopped", "it went on with a larger budget"


def test_a_run_whose_ledger_is_held_is_running(made, tmp_path):
    path = made.write(tmp_path / "run")
    with (path / "ledger.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert View.open(path).state == "running"
    assert View.open(path).state == "stopped"


def test_runs_without_scores_of_base_and_experts_are_refused(tmp_path):
    with pytest.raises(UsageError, match="no run here"):
        View.open(tmp_path)
    ledger = Ledger(config=GLOBAL)
    with pytest.raises(UsageError, match="no scores yet"):
        View.open(ledger.write(tmp_path / "empty"))
    ledger.start()
    ledger.events = ledger.events[:6]  # base, an expert, and one that is being scored
    with pytest.raises(UsageError, match="no scores yet"):
        View.open(ledger.write(tmp_path / "begun"))


def test_what_is_shown_is_the_best_the_baselines_the_finalists_and_the_front(tmp_path):
    ledger = selection(Ledger(config=GLOBAL).start().search(300), 0, 1, 2, 3, 20, 21)
    view = View.open(ledger.write(tmp_path / "run"))
    assert len(view.shown) <= SHOWN
    numbers = [trial.number for trial in view.shown]
    assert numbers == sorted(numbers)
    assert {*range(6), 20, 21} <= set(numbers)
    assert view.best == selected(view.record)[0]
    if len(view.front) + 8 <= SHOWN:
        assert {trial.number for trial in view.front} <= set(numbers)
