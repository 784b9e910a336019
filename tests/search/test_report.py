import json

import pytest

from evomerge.reporting.statistics import holm
from evomerge.search.columns import FLAG_LINE, RATES_LINE, SEARCH_SAID
from evomerge.search.config import Selection
from evomerge.search.finalists import reported
from evomerge.search.record import TaskScore
from evomerge.search.report import build_report, print_report, table
from evomerge.search.results import estimates
from evomerge.search.workers.base import Scored
from tests.search.records import answers, record
from tests.search.test_finalists import ITEMS, right, run, select
from tests.search.test_results import BETTER, PARENT, WEAK


def report(found, **more):
    """The report on base, experts x and y, the average and a candidate with answers `found`."""
    models = [
        {split: {"a": rows} for split in ("search", "selection", "report")}
        for rows in (WEAK, PARENT, WEAK, answers(3, wrong=7), WEAK, found)
    ]
    run = record(*models, openings=1)
    reported = {n: Scored(f"{n:016x}", models[n]["report"], 1.0) for n in (0, 1, 2, 3, 5)}
    return json.loads(json.dumps(build_report(run, reported)))


def test_rates_and_gains_stand_beside_every_score():
    rows = {row["title"]: row["scores"]["a"] for row in report(BETTER)["rows"]}
    assert rows["x"]["health"] == {"items": 10, "truncated": 0.3, "empty": 0, "looping": 0, "misshapen": 0}
    assert rows["x"]["gain"] is None
    gain = {"parent": "x", "items": 10, "total": 0.3, "health": 0.3, "explained_by_health": True}
    assert rows["best found (5)"]["gain"] == gain
    assert rows["best uniform (average)"]["gain"]["explained_by_health"] is False


def test_the_table_flags_what_health_explains(capsys):
    print_report(report(BETTER))
    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown if "†" in line] == ["best", "†"]
    assert any(line.split()[:3] == ["best", "found", "(5)"] and "†" in line for line in shown)
    assert RATES_LINE in shown
    assert FLAG_LINE in shown
    assert any("opened 1 time" in line for line in shown)


def test_a_true_gain_is_not_flagged(capsys):
    print_report(report(answers(8, cut=2)))
    assert "†" not in capsys.readouterr().out


def test_numbers_that_are_no_shares_are_not_in_per_cent():
    data = report(BETTER)
    for row in data["rows"]:
        row["scores"]["a"] |= {"by_item": [-20.5, -30.0], "mean": -25.25, "low": -85.6, "high": 35.1}
    header, rows = table(data)
    assert header[1] == "a"
    assert rows[0][1] == "-25.25 [-85.6, 35.1]"


def test_the_best_found_meets_its_best_rival_of_each_kind(capsys):
    found = run((28, 26), (22, 22), random=[(15, 15)], untuned=[(9, 9), (12, 12)])
    settings = Selection(finalists=2, chosen=1, front=2)
    select(found, settings, untuned_6=(12, 12), average=(15, 15), random_7=(14, 14), candidate_8=(30, 30))
    rights = {"base": 8, "average": 16, "untuned 6": 13, "random 7": 15, "candidate 8": 27}
    outcomes = {}
    for trial in reported(found, settings):
        rows = {task: right(rights.get(trial.name, 20)) for task in "ab"}
        outcomes[trial.number] = Scored("0" * 16, rows, 1.0)
        trial.scores["report"] = {task: TaskScore.of(answered) for task, answered in rows.items()}
    data = json.loads(json.dumps(build_report(found, outcomes)))
    assert data["version"] == 3
    assert [row["title"] for row in data["rows"]][3:] == [
        "best uniform (average)",
        "best untuned (untuned 6)",
        "best random (random 7)",
        "best found (8)",
    ]
    assert [test["second"].rpartition(" (")[0] for test in data["tests"]] == [
        "best expert",
        "best uniform",
        "best untuned",
        "best random",
    ]
    plain = [test["mean_normalised"]["p"] for test in data["tests"]]
    assert [test["mean_normalised"]["p_adjusted"] for test in data["tests"]] == holm(plain)
    best = data["rows"][-1]
    assert best["search_estimate"]["mean"] == estimates(found)[8].joined[0]
    assert best["mean_normalised"]["mean"] == pytest.approx((27 / ITEMS - 0.2) / 0.5)
    assert [member["number"] for member in data["front"]["members"]] == [8]
    covered = data["front"]["hypervolume"]
    assert covered["selection"]["low"] < (30 / ITEMS - 0.2) ** 2 / 0.25 < covered["selection"]["high"]
    assert covered["report"]["low"] < (27 / ITEMS - 0.2) ** 2 / 0.25 < covered["report"]["high"]

    print_report(data)
    shown = capsys.readouterr().out.splitlines()
    assert SEARCH_SAID in shown
    assert sum("adjusted for 4 tests" in line for line in shown) == 4
    assert sum(line.startswith("Front on the") for line in shown) == 2


def test_weights_of_tasks_count_in_the_report():
    found = run((28, 10), (22, 22))
    found.begin = {"objectives": {"a": {"weight": 3.0}, "b": {"weight": 1.0}}}
    select(found, Selection(2, 1, 0), candidate_5=(28, 10), candidate_6=(20, 20))
    rows = {task: right(count) for task, count in (("a", 28), ("b", 12))}
    outcomes = {trial.number: Scored("0" * 16, rows, 1.0) for trial in reported(found, Selection(2, 1, 0))}
    for number in outcomes:
        found.trials[number].scores["report"] = {task: TaskScore.of(answered) for task, answered in rows.items()}
    data = build_report(found, outcomes)
    assert data["weights"] == {"a": 3.0, "b": 1.0}
    assert data["rows"][-1]["title"] == "best found (5)"
    expected = (3 * (28 / ITEMS - 0.2) / 0.5 + (12 / ITEMS - 0.2) / 0.5) / 4
    assert data["rows"][-1]["mean_normalised"]["mean"] == pytest.approx(expected)
