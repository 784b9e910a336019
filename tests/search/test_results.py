from evomerge.search.fronts import front_row
from evomerge.search.results import best_parent, estimates, gain_of
from evomerge.search.watch.news import News
from tests.search.records import answers, record

PARENT, BETTER = answers(5, wrong=2, cut=3), answers(5, wrong=2) + answers(3)
WEAK = answers(1, wrong=9)


def run(**more):
    """Base, experts x (good at a) and y (good at b, and scored on selection), average, arithmetic, one candidate."""
    return record(
        {"search": {"a": WEAK, "b": WEAK}},
        {"search": {"a": PARENT, "b": WEAK}},
        {"search": {"a": WEAK, "b": PARENT}, "selection": {"a": PARENT, "b": WEAK}},
        {"search": {"a": WEAK, "b": WEAK}},
        {"search": {"a": PARENT, "b": PARENT}},
        {"search": {"a": BETTER, "b": answers(10)}, "selection": {"a": BETTER, "b": WEAK}},
        **more,
    )


def test_the_parent_is_the_best_expert_of_each_task_and_split():
    def parent(*place):
        best = best_parent(run(), *place)
        return best and best.name

    assert parent("search", "a") == "x"
    assert parent("search", "b") == "y"
    assert parent("selection", "a") == "y", "the only one that was scored there"
    assert parent("report", "a") is None


def test_parents_have_no_gain_and_merges_have():
    record = run()
    for number in (0, 1, 2):
        assert gain_of(record, record.trials[number], "search", "a") is None
    explained = gain_of(record, record.trials[5], "search", "a")
    half = gain_of(record, record.trials[5], "search", "b")
    none = gain_of(record, record.trials[4], "search", "b")
    assert explained is not None
    assert half is not None
    assert none is not None
    assert (explained.share, explained.explained) == (1.0, True)
    assert (half.share, half.explained) == (0.6, True)
    assert (none.total, none.explained) == (0.0, False)


def test_a_row_of_the_front_has_health_and_gain_on_every_split():
    record = run()
    row = front_row(record, record.trials[5], estimates(record)[5])["scores"]
    assert row["search"]["a"]["health"] == {"items": 10, "truncated": 0, "empty": 0, "looping": 0, "misshapen": 0}
    assert row["selection"]["a"]["gain"] == {
        "parent": "y",
        "items": 10,
        "total": 0.3,
        "health": 0.3,
        "explained_by_health": True,
    }
    assert row["selection"]["b"]["gain"]["explained_by_health"] is False
    expert = front_row(record, record.trials[1], estimates(record)[1])["scores"]["search"]["a"]
    assert (expert["health"]["truncated"], expert["gain"]) == (0.3, None)


def test_a_run_that_was_killed_before_there_was_a_scale_goes_on():
    begun = record({"search": {"a": WEAK, "b": WEAK}}, {}, {})
    (line,) = News()(begun, None)
    assert line.text == "resumed: 1 models were scored before"
