"""The scores that a card gets; that models are exported bit for bit is tested in tests/merging."""

from evomerge.search.columns import FLAG_LINE
from evomerge.search.export import card_scores
from tests.search.records import record
from tests.search.test_results import BETTER, PARENT, WEAK


def scores(number, *splits, openings=0):
    models = [{split: {"a": rows} for split in splits} for rows in (WEAK, PARENT, WEAK, WEAK, WEAK, BETTER)]
    models[0].pop("selection", None)  # the base is not scored there
    run = record(*models, openings=openings)
    return card_scores(run, run.trials[number])


def test_the_split_farthest_from_the_search_is_shown():
    assert scores(5, "search").split == "search"
    selection = scores(5, "search", "selection")
    assert (selection.split, selection.openings) == ("selection", 0)
    assert [row[0] for row in selection.rows] == ["x", "y", "average", "**this model** (candidate 5)"]
    report = scores(5, "search", "selection", "report", openings=2)
    assert (report.split, report.openings) == ("report", 2)
    assert report.rows[0][0] == "base"


def test_gains_that_are_health_are_flagged_and_explained():
    found = scores(5, "search", "selection")
    assert found.rows[-1][1].endswith("†")
    assert FLAG_LINE in found.notes


def test_a_baseline_may_be_exported_too():
    assert [row[0] for row in scores(1, "search").rows] == ["base", "y", "**this model** (x)"]


def test_a_model_without_scores_has_none():
    assert scores(5) is None
