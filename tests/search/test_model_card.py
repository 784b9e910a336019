"""What a card is told of a run, from records that never were."""

import pytest

from evomerge.search.columns import FLAG_LINE
from evomerge.search.model_card import card_scores, facts_of_prediction, item_sets, run_facts
from tests.search.records import record
from tests.search.test_results import BETTER, PARENT, WEAK

CONFIG = {
    "optimizer": {"name": "map"},
    "seed": 7,
    "space": {"methods": ["dare_linear"]},
    "tasks": {"a": {"task": "a", "metric": "exact_match"}},
}


def run_of(*splits, openings=0, **begin):
    models = [{split: {"a": rows} for split in splits} for rows in (WEAK, PARENT, WEAK, WEAK, WEAK, BETTER)]
    models[0].pop("selection", None)  # the base is not scored there
    run = record(*models, openings=openings)
    run.begin = {**run.begin, **begin}
    return run


def scores(number, *splits):
    run = run_of(*splits)
    return card_scores(run, run.trials[number])


def test_the_split_farthest_from_the_search_is_shown():
    assert scores(5, "search").split == "search"
    selection = scores(5, "search", "selection")
    assert selection.split == "selection"
    assert [row[0] for row in selection.rows] == ["x", "y", "average", "**this model** (candidate 5)"]
    report = scores(5, "search", "selection", "report")
    assert report.split == "report"
    assert report.rows[0][0] == "base"


def test_gains_that_are_health_are_flagged_and_explained():
    found = scores(5, "search", "selection")
    assert found.rows[-1][1].endswith("†")
    assert FLAG_LINE in found.notes


def test_a_baseline_may_be_exported_too():
    assert [row[0] for row in scores(1, "search").rows] == ["base", "y", "**this model** (x)"]


def test_a_model_without_scores_has_none():
    assert scores(5) is None


def test_item_sets_have_the_hashes_of_the_ledger():
    run = run_of("search", "selection", prompts={"search/a": "9c04", "selection/a": "3a2f", "report/a": "6533"})
    assert [(s.task, s.split, s.items, s.hash) for s in item_sets(run)] == [
        ("a", "search", len(WEAK), "9c04"),
        ("a", "selection", len(WEAK), "3a2f"),
    ]


def test_what_a_run_knows():
    versions = {"torch": "2.13.0"}
    run = run_of("search", "selection", "report", openings=2, evomerge="0.1.0", versions=versions)
    facts = run_facts(run, CONFIG, run.trials[5], chosen="best")
    assert facts.openings == 2
    assert facts.versions == {"evomerge": "0.1.0", "torch": "2.13.0"}
    assert facts.found["model"] == "candidate 5 (number 5)"
    assert facts.found["chosen"] == "best"
    assert (facts.found["optimizer"], facts.found["seed"]) == ("map", "7")
    assert [split for split, _ in facts.by_split] == ["search", "selection", "report"]


def test_only_report_scores_go_into_the_model_index():
    run = run_of("search", "selection", "report")
    [result] = run_facts(run, CONFIG, run.trials[5], chosen="best").results
    [metric] = result["metrics"]
    mean = run.trials[5].scores["report"]["a"].mean
    assert (metric["type"], metric["value"]) == ("exact_match", round(mean, 4))
    assert "95 % interval" in metric["name"]
    chosen = run_of("search", "selection")
    assert run_facts(chosen, CONFIG, chosen.trials[5], chosen="best").results == []
    assert run_facts(run, {**CONFIG, "tasks": {"a": {"task": "a"}}}, run.trials[5], chosen="best").results == [], (
        "which metric?"
    )


def test_scores_that_are_no_shares_stay_out_of_the_model_index():
    """They are turned so that larger is better: -3.2 is no perplexity."""
    run = run_of("search", "report")
    score = run.trials[5].scores["report"]["a"]
    run.trials[5].scores["report"]["a"] = type(score)(-3.2, 0.1, 5, (-3.1, -3.3), "00")
    assert run_facts(run, CONFIG, run.trials[5], chosen="best").results == []


@pytest.mark.parametrize("splits", [("search",), ("search", "selection", "report")])
def test_a_prediction_has_no_scores(splits):
    facts = facts_of_prediction(run_of(*splits), CONFIG, ["a: 0.6"], chosen="by hand")
    assert (facts.scores, facts.predicted, list(facts.results)) == (None, ["a: 0.6"], [])
