import pytest

from evomerge.evaluation.types import Outcome
from evomerge.search.fronts import score_interval
from evomerge.search.page.trials import dimensions, joined_interval, trial_columns, values
from evomerge.search.page.view import View
from evomerge.search.record import TaskScore
from evomerge.search.results import estimates, front, gain_row
from evomerge.search.results import joined_interval as joined_of
from tests.search.page.ledgers import GLOBAL, SPACE, Ledger, space
from tests.search.test_finalists import stop


def test_columns_say_what_the_record_says(view):
    columns, record = trial_columns(view), view.record
    assert columns["number"] == sorted(record.trials)
    worth, members = estimates(record), {trial.number for trial in front(record)}
    for row, number in enumerate(columns["number"]):
        trial = record.trials[number]
        assert (columns["kind"][row], columns["hash"][row]) == (trial.kind, trial.recipe.hash)
        assert columns["front"][row] == (number in members)
        joined = joined_of(record, trial, "search")
        found = columns["joined"]["search"]
        assert (found["mean"][row], found["low"][row]) == pytest.approx((joined.mean, joined.low), abs=1e-5)
        for task in view.tasks:
            score, interval = trial.scores["search"][task], score_interval(trial.scores["search"][task])
            cell = {key: column[row] for key, column in columns["scores"]["search"][task].items()}
            assert cell["items"] == score.items
            assert (cell["mean"], cell["high"]) == pytest.approx((interval.mean, interval.high), abs=1e-5)
            assert columns["worth"]["tasks"][task]["mean"][row] == pytest.approx(worth[number].tasks[task][0], abs=1e-5)
            gain = gain_row(record, trial, "search", task)
            assert columns["explained_by_health"][task][row] == bool(gain and gain["explained_by_health"])
    assert not any(columns["best"]), "nobody was scored on the selection split"
    assert list(columns["scores"]) == ["search"]


def test_health_and_its_gains_are_those_of_the_marks(tmp_path):
    ledger = Ledger(config=GLOBAL, items=8).start().search(1)
    number = ledger.count - 1
    for event in ledger.events:  # the expert of code is cut off in half of its answers, the candidate is right in all
        if event["event"] == "tell" and event["number"] in (1, number):
            score = event["scores"]["code"]
            score["by_item"] = "11111111" if event["number"] == number else "11110000"
            score["marks"] = "00000000" if event["number"] == number else "00001111"
            score["mean"] = score["by_item"].count("1") / 8
    columns = trial_columns(View.open(ledger.write(tmp_path / "run")))
    assert columns["health"]["search"]["code"]["truncated"][1] == 0.5
    assert columns["health"]["search"]["code"]["truncated"][number] == 0.0
    flags = columns["explained_by_health"]["code"]
    assert flags[number] is True
    assert not any(flags[:4]), "base and experts gain nothing over the best expert"


def test_a_stopped_score_has_the_interval_of_its_estimate(made, path):
    view = View.open(path)
    trial = view.record.trials[10]
    stop(trial, items=8, mean=0.4)
    joined = joined_interval(view, trial, "search")
    means = [scale.normalise(0.4) for scale in view.scales]
    assert joined.mean == pytest.approx(sum(means) / 3)
    assert joined.low == pytest.approx(joined.mean - 2 * joined.error)
    columns = trial_columns(view)
    assert columns["scores"]["search"]["code"]["mean"][10] == 0.4
    assert columns["scores"]["search"]["code"]["items"][10] == 8


def test_scores_that_are_no_shares_are_kept(made, path):
    view = View.open(path)
    rows = [Outcome("code", "", score, 1, False, "", "") for score in (-2.0, -3.0, -4.5) * 16]
    view.record.trials[10].scores["search"]["code"] = TaskScore.of(rows)
    interval = score_interval(view.record.trials[10].scores["search"]["code"])
    assert trial_columns(view)["scores"]["search"]["code"]["low"][10] == pytest.approx(interval.low, rel=1e-5)


def test_values_are_those_of_the_recipes(view):
    described = dimensions(view)
    assert described[0] == {
        "name": "weight.code.all",
        "group": "all",
        "expert": "code",
        "parameter": "weight",
        "low": 0.0,
        "high": 1.5,
    }
    rows = values(view, view.trials)
    for trial, row in zip(view.trials, rows, strict=True):
        if trial.kind == "candidate":
            for dimension, value in zip(described, row, strict=True):
                expected = trial.recipe.parameters[dimension["parameter"]][dimension["expert"]][dimension["group"]]
                assert value == pytest.approx(expected, rel=1e-5)
    assert rows[0] == [0.0] * len(described), "the base lies in the space"


def test_without_a_layout_the_names_say_what_they_can(made, tmp_path):
    view = View.open(made.write(tmp_path / "run", about=False))
    assert "about.json" in view.notes[0]
    described = dimensions(view)
    assert [d["name"] for d in described] == [d.name for d in made.space.dimensions]
    assert (described[0]["parameter"], described[0]["expert"], described[0]["group"]) == ("weight", "code", "all")
    assert described[0]["low"] is None
    assert trial_columns(view)["values"] == [None] * len(view.trials)


def test_another_space_than_the_runs_is_no_space(made, tmp_path):
    assert View.open(made.write(tmp_path / "run", mask_seed=0)).spaces
    other = Ledger(config=GLOBAL)
    other.events, other.config = made.events, SPACE
    assert View.open(other.write(tmp_path / "other")).spaces == []


def test_vectors_of_an_earlier_stage_are_lifted_into_the_last(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(2)
    ledger.config = {**GLOBAL, "refine": [{"granularity": 1}]}
    fine = space(SPACE)
    ledger.events[0]["dimensions"].append([dimension.name for dimension in fine.dimensions])
    ledger.events.append({"event": "stage", "stage": 1})
    coarse = ledger.events[-2]["number"]
    point = tuple(0.25 for _ in fine.dimensions)
    number = ledger.ask("candidate", "candidate", fine.recipe(point), point)
    ledger.events[-1]["stage"] = 1
    ledger.tell(number, [0.5, 0.5, 0.5])
    view = View.open(ledger.write(tmp_path / "run"))
    assert view.vectors[number] == point
    recipe = view.record.trials[coarse].recipe
    lifted = fine.recipe(view.vectors[coarse])
    for name in ("weight", "drop_rate"):
        for tensor in fine.layout.tensors:
            for expert in fine.experts:
                assert lifted.parameter(name, expert, tensor) == pytest.approx(recipe.parameter(name, expert, tensor))
    assert len(view.vectors[1]) == len(fine)


def test_choices_are_shown_as_they_are(tmp_path):
    config = {**GLOBAL, "methods": ["dare_linear", "dare_ties"]}
    ledger = Ledger(config=config).start().search(3)
    view = View.open(ledger.write(tmp_path / "run"))
    described = dimensions(view)
    assert described[0]["choices"] == ["dare_linear", "dare_ties"]
    for trial, row in zip(view.trials, values(view, view.trials), strict=True):
        if trial.kind == "candidate":
            assert row[0] == trial.recipe.method


def test_a_failure_is_in_the_column_of_failures(tmp_path):
    view = View.open(Ledger(config=GLOBAL).start().search(2).fail("memory", "none left").write(tmp_path / "run"))
    columns = trial_columns(view)
    assert columns["failure"][-1] == {"kind": "memory", "message": "none left"}
    assert columns["seconds"][-1] is None
    assert columns["scores"]["search"]["code"]["mean"][-1] is None
    view.trials[-1].failure = None
    assert view.trials[-1].outcome is None
