import json

import pytest

from evomerge.evaluation.types import Outcome
from evomerge.search.frames import outcomes_frame, parameters_frame, scores_frame, trials_frame
from evomerge.search.record import Record
from evomerge.search.results import estimates
from tests.search.records import answers, events, record


def on(right: int, *, cut: int = 0) -> dict:
    return {"t": answers(right, wrong=4 - right - cut, cut=cut)}


PARENTS = [{"search": on(0), "selection": on(0)}, {"search": on(2), "selection": on(2)}, {"search": on(1)}]
UNIFORM = [{"search": on(2)}, {"search": on(2)}]


def test_trials_say_who_is_best_and_on_the_front():
    run = record(*PARENTS, *UNIFORM, {"search": on(3), "selection": on(2)}, {"search": on(1, cut=1)}, {})
    frame = trials_frame(run)
    assert frame.index.tolist() == list(range(8))
    assert frame.index.name == "number"
    assert frame.kind.tolist() == ["base", "expert", "expert", "uniform", "uniform", *["candidate"] * 3]
    assert frame.state.tolist() == ["scored"] * 7 + ["waiting"]
    assert frame.front.tolist() == [False] * 5 + [True, False, False]
    assert frame.best.tolist() == [False] * 5 + [True, False, False]
    assert frame["search/t"].tolist()[:7] == [0, 0.5, 0.25, 0.5, 0.5, 0.75, 0.25]
    assert frame["search/mean normalised"].tolist()[:3] == [0, 1, 0.5]
    assert frame["selection/t"].isna().tolist() == [False, False, True, True, True, False, True, True]
    assert frame.recipe[5] == run.trials[5].recipe.hash
    assert frame.worth[5] == estimates(run)[5].joined[0]


def test_failures_and_races():
    lines = events(*PARENTS, *UNIFORM, {"search": on(3)}, {"search": on(1)}, {})
    for line in lines:
        if line["event"] == "tell" and line["number"] == 6:
            line["beaten_by"] = 5
            line["scores"]["t"]["places"] = [0, 2, 3, 5]
    lines.append({"event": "fail", "number": 7, "kind": "nan", "message": "weights are NaN"})
    frame = trials_frame(Record.of(json.loads(json.dumps(lines))))
    assert frame.state.tolist()[5:] == ["scored", "cut short", "failed"]
    assert frame.beaten_by.dropna().to_dict() == {6: 5}
    assert frame.failure.dropna().to_dict() == {7: "nan: weights are NaN"}


@pytest.mark.parametrize("asked", range(1, 5))
def test_a_run_that_has_only_begun_has_no_scale_yet(asked):
    frame = trials_frame(record(*[{"search": on(2)}] * (asked - 1), {}))
    assert len(frame) == asked
    assert not frame.front.any()
    assert ("search/mean normalised" in frame) == (asked == 4), "base and both experts are needed"
    assert scores_frame(record(*[{"search": on(2)}] * (asked - 1), {})).empty == (asked < 4)


def test_scores_have_intervals_health_and_gains():
    frame = scores_frame(record(*PARENTS, *UNIFORM, {"search": on(3), "selection": on(1, cut=2)}))
    assert len(frame) == 9
    row = frame[(frame.number == 5) & (frame.split == "search")].iloc[0]
    assert (row["mean"], row["items"], row["tokens"]) == (0.75, 4, 20)
    assert row.low < 0.75 < row.high
    assert row.gain == 0.25
    assert frame[(frame.number == 5) & (frame.split == "selection")].truncated.item() == 0.5
    assert frame[frame.number == 0].gain.isna().all()


def test_parameters_are_those_of_the_recipes():
    run = record(*PARENTS, *UNIFORM, {"search": on(3)}, {"search": on(1)})
    frame = parameters_frame(run)
    assert frame.index.tolist() == [5, 6]
    weights = run.trials[6].recipe.parameters["weight"]["x"]
    assert {group: frame[f"weight/x/{group}"][6] for group in weights} == weights
    assert parameters_frame(record(*PARENTS)).empty


def test_outcomes_join_ledger_items_and_answers():
    run = record(*PARENTS, *UNIFORM, {"search": on(3, cut=1)})
    items = {"search": {"t": ["train:7", "train:1", "train:9", "train:4"]}, "selection": {"t": ["a", "b", "c", "d"]}}
    other = Outcome("t", "train:4", 1.0, 9, False, "under other settings", "")
    right = Outcome("t", "train:4", 0.0, 5, True, "and so", "")
    frame = outcomes_frame(run, items, {"0000000000000005": [other, right]})
    mine = frame[frame.number == 5]
    assert mine.item.tolist() == items["search"]["t"]
    assert mine.score.tolist() == [1, 1, 1, 0]
    assert mine.truncated.tolist() == [False, False, False, True]
    assert mine.answer.isna().tolist() == [True, True, True, False]
    assert mine.answer.iloc[3] == "and so"
    assert len(frame) == 4 * 8
