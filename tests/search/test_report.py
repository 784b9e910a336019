import json

from evomerge.search.columns import FLAG_LINE, RATES_LINE
from evomerge.search.report import build_report, print_report, table
from evomerge.search.workers import Scored
from tests.search.records import answers, record
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
