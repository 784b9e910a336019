from evomerge.search.page.cost import cost
from evomerge.search.page.notes import failures, flags, flat_scales
from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, Ledger


def test_unsound_answers_and_gains_that_are_health_are_flagged(tmp_path):
    ledger = Ledger(config=GLOBAL, items=10).start().search(1)
    number = ledger.count - 1
    for event in ledger.events:
        if event["event"] == "tell":
            score = event["scores"]["code"]
            mine = event["number"] == number
            score["by_item"] = "1111111111" if mine else "1111100000"
            score["marks"] = "0000000011" if mine else "0000000000" if event["number"] == 0 else "0000011111"
            score["mean"] = 1.0 if mine else 0.5
    rows = [row for row in flags(View.open(ledger.write(tmp_path / "run"))) if row["trial"] == number]
    texts = [row["text"] for row in rows if row["task"] == "code"]
    assert any(text.startswith("20 % of the answers are cut off (base: 0 %)") for text in texts)
    assert any("over code, +0.3 is health" in text for text in texts)
    assert {row["task"] for row in rows} == {"code"}


def test_sound_runs_have_no_flags(view):
    assert flags(view) == []
    assert failures(view) == []


def test_a_task_that_no_expert_is_clearly_better_at_has_a_flat_scale(tmp_path):
    ledger = Ledger(config=GLOBAL, items=10).start().search(1)
    for event in ledger.events:
        if event["event"] == "tell" and event["number"] < 4:
            for task, right in (("code", "1111100000"), ("math", "1111111111"), ("word", "1111111111")):
                event["scores"][task]["by_item"] = right if event["number"] else "0000000000"
            if event["number"]:
                event["scores"]["code"]["by_item"] = "1000000000"
    (line,) = flat_scales(View.open(ledger.write(tmp_path / "run")))
    assert line.startswith("code: the best expert (")
    assert "(by 0.1, 95 % interval -" in line


def test_failures_are_counted_by_kind(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(1)
    ledger.fail("memory", "none left").fail("candidate", "NaN 1").fail("candidate", "NaN 2")
    rows = failures(View.open(ledger.write(tmp_path / "run")))
    assert rows == [
        {"kind": "candidate", "count": 2, "example": "NaN 1"},
        {"kind": "memory", "count": 1, "example": "none left"},
    ]


def test_costs_are_sums_over_the_ledger(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(3)
    ledger.tell(0, [0.5] * 3, "selection", seconds=7.5)
    found = cost(View.open(ledger.write(tmp_path / "run")))
    assert found == {
        "seconds": {"search": 18.0, "selection": 7.5},
        "items": {"search": 9 * 3 * 48, "selection": 3 * 48},
        "tokens": 10 * 3 * 5,
        "candidates": 3,
    }
