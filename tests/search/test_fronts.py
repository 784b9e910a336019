"""The front as data."""

import json

import pytest

from evomerge.reporting.front_intervals import hypervolume_interval
from evomerge.reporting.statistics import mean_interval
from evomerge.search.fronts import front_data, hypervolume_data, score_interval
from evomerge.search.results import anchors, front
from tests.search.records import record
from tests.search.test_finalists import ITEMS, right, run, stop


def selection(trial, a, b):
    trial.scores["selection"] = record({"search": {"a": right(a), "b": right(b)}}).trials[0].scores["search"]


def scored():
    found = run((28, 10), (10, 28), (21, 21), (9, 9))
    selection(found.trials[5], 26, 12)
    selection(found.trials[7], 22, 20)
    return found


def test_members_have_intervals_and_what_search_scores_are_worth():
    data = json.loads(json.dumps(front_data(scored())))
    assert [member["number"] for member in data["members"]] == [5, 6, 7]
    first = data["members"][0]
    assert first["beaten_by"] is None
    expected = mean_interval([1.0] * 26 + [0.0] * 14)
    assert (first["scores"]["selection"]["a"]["low"], first["scores"]["selection"]["a"]["high"]) == (
        expected.low,
        expected.high,
    )
    assert first["search_estimate"]["tasks"]["a"]["mean"] < 28 / ITEMS
    assert first["search_estimate"]["mean_normalised"]["error"] > 0
    assert data["anchors"] == {"a": [0.2, 0.7], "b": [0.2, 0.7]}


def test_the_hypervolume_is_of_those_that_were_scored_there():
    found = scored()
    data = front_data(found)["hypervolume"]
    assert list(data) == ["selection"]
    rows = {task: [found.trials[n].scores["selection"][task].scores for n in (5, 7)] for task in "ab"}
    assert data["selection"]["mean"] == hypervolume_interval(rows, anchors(found)).mean
    assert set(data["selection"]["on_front"]) == {"5", "7"}
    assert hypervolume_data(found, front(found), "report") is None


def test_floors_hold_there_too():
    found = scored()
    found.begin = {"objectives": {"a": {"weight": 1.0, "floor": 0.5}, "b": {"weight": 1.0, "floor": 0.2}}}
    full = front_data(found)
    assert full["floors"] == {"a": 0.5, "b": 0.2}
    found.begin = {"objectives": {"a": {"weight": 1.0, "floor": 0.5}, "b": {"weight": 1.0, "floor": 0.4}}}
    assert front_data(found)["hypervolume"]["selection"]["on_front"].keys() == {"7"}


def test_the_interval_of_a_stopped_score_holds_both_errors():
    found = run((20, 20), (21, 21))
    stop(found.trials[5], items=8, mean=0.4)
    interval = score_interval(found.trials[5].scores["search"]["a"])
    assert interval.mean == 0.4
    assert interval.error == pytest.approx(0.1), "all eight are right, so no error but the race's"
    assert (interval.low, interval.high) == pytest.approx((0.2, 0.6))
