import pytest

from evomerge.reporting.statistics import holm, normalised_difference
from evomerge.search.page.versus import versus
from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, TASKS, Ledger


@pytest.fixture
def ledger():
    return Ledger(config=GLOBAL).start().search(6)  # 0: the base, 1-3: experts, 4 and 5: uniform, then candidates


def tell(ledger, split, **means):
    for number, mean in means.items():
        ledger.tell(int(number[1:]), [mean] * 3, split)


def test_nothing_is_compared_before_the_selection(ledger, tmp_path):
    assert versus(View.open(ledger.write(tmp_path / "run"))) is None
    tell(ledger, "selection", n7=0.9)
    assert versus(View.open(ledger.write(tmp_path / "run"))) is None, "no rival yet"


def test_the_best_is_compared_with_the_best_of_each_kind_item_by_item(ledger, tmp_path):
    tell(ledger, "selection", n0=0.1, n1=0.2, n2=0.6, n3=0.2, n4=0.3, n5=0.7, n7=0.9, n8=0.1)
    view = View.open(ledger.write(tmp_path / "run"))
    found = versus(view)
    assert (found["trial"], found["split"]) == (7, "selection")
    assert [(row["title"], row["trial"]) for row in found["rivals"]] == [("best expert", 2), ("best uniform", 5)]

    def scores(number):
        return {task: view.record.trials[number].scores["selection"][task].scores for task in TASKS}

    mine = scores(7)
    expected = [
        normalised_difference({t: (mine[t], scores(row["trial"])[t]) for t in TASKS}, view.anchors)
        for row in found["rivals"]
    ]
    for row, difference, p in zip(found["rivals"], expected, holm([d.p for d in expected]), strict=True):
        assert [row[k] for k in ("mean", "low", "high")] == pytest.approx(
            [difference.mean, difference.low, difference.high], rel=1e-5
        )
        assert row["p"] == pytest.approx(p, rel=1e-5)


def test_the_report_split_counts_once_all_that_it_takes_are_scored_there(ledger, tmp_path):
    tell(ledger, "selection", n0=0.1, n1=0.2, n2=0.6, n3=0.2, n4=0.3, n5=0.7, n7=0.9)
    tell(ledger, "report", n0=0.1, n2=0.6, n7=0.9)
    assert versus(View.open(ledger.write(tmp_path / "run")))["split"] == "selection"
    tell(ledger, "report", n5=0.95)
    found = versus(View.open(ledger.write(tmp_path / "run")))
    assert found["split"] == "report"
    assert found["rivals"][1]["mean"] < 0 < found["rivals"][0]["low"], "a loss is shown like a gain"
