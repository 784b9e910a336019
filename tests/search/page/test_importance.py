import re

import pytest

from evomerge.search.page.importance import importance
from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, TASKS, Ledger


def test_what_the_scores_depend_on_comes_first_and_shares_add_up_to_r2(tmp_path):
    view = View.open(Ledger(config=GLOBAL, items=200).start().search(80).write(tmp_path / "run"))
    shares, note = importance(view)
    for task in TASKS:
        assert shares[task][0]["dimension"] == f"weight.{task}.all"
        assert sum(row["share"] for row in shares[task]) <= 1.0
        by_name = {row["dimension"]: row["share"] for row in shares[task]}
        assert len(by_name) == 6
        assert sum(share for name, share in by_name.items() if name.startswith("drop_rate")) < 0.1
        r2 = float(re.search(rf"{task} (\d\.\d\d)", note)[1])
        assert sum(by_name.values()) == pytest.approx(r2, abs=0.01)
    joined = {row["dimension"] for row in shares["joined"][:3]}
    assert joined == {f"weight.{task}.all" for task in TASKS}
    assert "fitted to 86 scored models" in note
    assert all(0.0 < row["error"] < 0.2 for row in shares["code"])
    assert importance(view) == (shares, note), "the same numbers every time"


def test_noise_has_no_importance(tmp_path):
    ledger = Ledger(config=GLOBAL).start()
    for _ in range(40):
        ledger.tell(ledger.candidate(), [0.5, 0.5, 0.5])
    for event in ledger.events:  # base and experts alike, so that nothing depends on anything
        if event["event"] == "tell" and event["number"] < 6:
            event["scores"] = ledger.events[-1]["scores"]
    shares, note = importance(View.open(ledger.write(tmp_path / "run")))
    assert shares == dict.fromkeys([*TASKS, "joined"])
    assert "too little: left out" in note


def test_too_few_trials_are_said_to_be(tmp_path):
    shares, note = importance(View.open(Ledger(config=GLOBAL).start().search(4).write(tmp_path / "run")))
    assert shares == dict.fromkeys([*TASKS, "joined"])
    assert "10 scored models in the space are too few for 6 dimensions" in note


def test_without_a_space_there_is_none(made, tmp_path):
    shares, note = importance(View.open(made.write(tmp_path / "run", about=False)))
    assert shares == dict.fromkeys([*TASKS, "joined"])
    assert "not known" in note
