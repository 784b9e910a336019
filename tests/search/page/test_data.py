import json
import time

import pytest

from evomerge.errors import UsageError
from evomerge.reporting.page import PAGE_VERSION
from evomerge.search.fronts import front_data
from evomerge.search.page import page_data
from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, TASKS, Ledger

RUN = {
    *("name", "path", "optimizer", "seed", "method", "experts", "state", "openings", "notes", "items", "dimensions"),
    *("trials", "curves", "baseline_lines", "hypervolume", "recipes", "front_heat", "importance", "importance_note"),
    *("versus", "wins", "flags", "failures", "advice", "cost", "predicted"),
}


def test_a_run_has_every_part_and_is_plain_json(path):
    data = page_data([path])
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert (data["version"], data["title"]) == (PAGE_VERSION, "run")
    assert [task["name"] for task in data["tasks"]] == list(TASKS)
    assert all(task["share"] and task["larger_is_better"] and task["floor"] is None for task in data["tasks"])
    (run,) = data["runs"]
    assert set(run) == RUN
    assert (run["optimizer"], run["seed"], run["method"]) == ("random", 3, "dare_linear")
    assert run["items"]["search"] == dict.fromkeys(TASKS, 48)
    assert run["advice"] == ["more items"]
    assert run["path"] == str(path)
    assert all(recipe["yaml"].startswith("version: 1") for recipe in run["recipes"].values())
    count = len(run["trials"]["number"])
    flat = [column for column in run["trials"].values() if isinstance(column, list)]
    assert {len(column) for column in flat} == {count}


def test_the_front_covers_what_its_data_say(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(20)
    view = View.open(ledger.write(tmp_path / "run"))
    for number in [0, 1, 2, 3, *(trial.number for trial in view.front)][:8]:
        ledger.tell(number, [0.6, 0.6, 0.6], "selection")
    path = ledger.write(tmp_path / "run")
    found = page_data([path])["runs"][0]["hypervolume"]
    expected = front_data(View.open(path).record)["hypervolume"]["selection"]
    assert found == {"selection": {key: pytest.approx(expected[key], rel=1e-5) for key in ("mean", "low", "high")}}


def test_the_ledger_alone_is_enough(made, tmp_path):
    path = made.write(tmp_path / "run", config=False, about=False)
    (run,) = page_data([path])["runs"]
    assert run["state"] == "stopped"
    assert run["method"] == "dare_linear"
    assert run["items"]["search"] == dict.fromkeys(TASKS, 48)
    assert run["optimizer"] is None
    assert run["predicted"] is None
    assert run["notes"]


def test_before_the_first_candidate_there_is_no_front(tmp_path):
    ledger = Ledger(config=GLOBAL).start()
    (run,) = page_data([ledger.write(tmp_path / "run")])["runs"]
    assert run["front_heat"] is None
    assert not any(run["trials"]["front"])
    assert run["curves"]["best"] == [None] * 6
    assert len(run["recipes"]) == 6


def test_several_runs_are_named_by_what_tells_them_apart(tmp_path):
    one, two = (Ledger(config=GLOBAL, seed=n).start().search(5).write(tmp_path / f"seed{n}" / "run") for n in (1, 2))
    data = page_data([one, two])
    assert [run["name"] for run in data["runs"]] == ["seed1/run", "seed2/run"]
    assert data["title"] == "2 runs"
    assert data["runs"][0]["notes"] == []
    assert "each run's own scale" in data["runs"][1]["notes"][0], "another base's luck"
    data = page_data([one, one])
    assert [run["name"] for run in data["runs"]] == ["run (1)", "run (2)"]
    assert data["runs"][1]["notes"] == []


@pytest.mark.parametrize("what", ["items", "tasks", "floors"])
def test_runs_that_cannot_be_compared_are_refused_in_one_line(made, path, tmp_path, what):
    ledger = Ledger(config=GLOBAL, prompts="1" if what == "items" else "0").start()
    if what == "floors":
        ledger.events[0]["objectives"] = {"code": {"weight": 1.0, "floor": 0.1}}
    if what == "tasks":
        for event in ledger.events:
            if event["event"] == "tell":
                del event["scores"]["word"]
    with pytest.raises(UsageError, match=what) as error:
        page_data([path, ledger.write(tmp_path / "run")])
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_five_thousand_candidates_take_seconds(tmp_path):
    path = Ledger().start().search(5000).write(tmp_path / "run")
    start = time.process_time()
    text = json.dumps(page_data([path]))
    assert time.process_time() - start < 20
    assert len(text) < 8e6
