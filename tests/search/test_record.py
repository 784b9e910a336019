import json

import pytest

from evomerge.evaluation.health import Health
from evomerge.evaluation.types import Likelihood, Outcome, responses_to_text
from evomerge.recipes import Recipe
from evomerge.search.ledger import parse
from evomerge.search.record import Record, TaskScore
from tests.search.records import CUT, RIGHT, WRONG, answers, record


def again(score: TaskScore) -> TaskScore:
    """Through JSON and back, as a ledger does it."""
    return TaskScore.from_dict(json.loads(json.dumps(score.to_dict())))


def test_right_and_wrong_take_one_character_an_item():
    score = TaskScore.of([RIGHT, WRONG, CUT, RIGHT])
    assert (score.mean, score.items, score.tokens) == (0.5, 4, 20)
    assert (score.by_item, score.marks) == ("1001", "0010")
    assert score.scores == [1.0, 0.0, 0.0, 1.0]
    assert score.health == Health(4, truncated=0.25)
    assert again(score) == score
    long = TaskScore.of([RIGHT, CUT] * 100)
    assert len(json.dumps(long.to_dict())) < 2 * 200 + 120


def test_other_scores_keep_six_digits_and_an_exact_mean():
    values = [-1.23456789, -321.987654321, 0.0, -1e-9]
    rows = [Outcome("t", "", value, 1, False, responses_to_text([Likelihood(value, False)]), "") for value in values]
    score = TaskScore.of(rows)
    assert score.mean == pytest.approx(sum(values) / 4, rel=1e-15)
    assert score.scores == [-1.23457, -321.988, 0.0, -1e-9]
    assert score.marks == "0000"
    assert again(score) == score


def test_a_negative_zero_is_a_zero():
    assert TaskScore.of([Outcome("t", "", -0.0, 1, False, "x", "")]).by_item == "0"


def test_gains_are_computed_from_the_ledger_alone():
    both = record(
        *[{"search": {"t": answers(0, wrong=10)}}] * 1,
        {"search": {"t": answers(4, wrong=2, cut=4)}},
        {"search": {"t": answers(10)}},
    )
    parent, candidate = (both.trials[number].scores["search"]["t"] for number in (1, 2))
    gain = candidate.gain_over(parent)
    assert (gain.items, gain.total, gain.health, gain.explained) == (10, 0.6, 0.4, True)
    assert not parent.gain_over(candidate).explained


def test_items_are_compared_by_their_places():
    parent = TaskScore.of(answers(1, cut=9))
    candidate = TaskScore.of(answers(2, wrong=1), places=[0, 4, 9], estimate=(0.5, 0.1))
    assert candidate.by_place == {0: 1.0, 4: 1.0, 9: 0.0}
    assert (candidate.mean, candidate.error, candidate.items) == (0.5, 0.1, 3)
    assert candidate.gain_over(parent).items == parent.gain_over(candidate).items == 3
    assert candidate.gain_over(parent).total == pytest.approx(1 / 3)
    assert again(candidate) == candidate


def test_sums_and_lists_are_those_of_all_trials():
    model = {"search": {"t": answers(3, wrong=1)}, "selection": {"t": answers(2)}}
    found = record(*[model] * 5, *[{"search": {"t": answers(2, wrong=2)}}] * 3)
    found.take({"event": "ask", **found.trials[7].ask_event(), "number": 8})
    found.take({"event": "fail", "number": 8, "kind": "memory", "message": ""})
    totals, trials = found.totals, found.trials.values()
    assert totals.asked == {"base": 1, "expert": 2, "uniform": 2, "candidate": 4}
    assert totals.told == totals.asked
    assert totals.models == {"search": 8, "selection": 5}
    assert totals.items == {"search": 32, "selection": 10}
    assert totals.seconds == sum(trial.seconds for trial in trials) == 8.0
    assert totals.failures == {"memory": 1}
    assert found.of_kind() == sorted(trials, key=lambda trial: trial.number)
    assert [trial.number for trial in found.of_kind("expert", "base")] == [0, 1, 2]
    assert [(number, split) for number, split in found.results if number > 5] == [
        (6, "search"), (7, "search"), (8, None),
    ]  # fmt: skip


def test_what_was_complete_when_one_was_asked_for():
    found = record(*[{"search": {"t": answers(1)}}] * 8)
    for number in found.trials:
        asked = found.order.index(("ask", number))
        told = [other for what, other in found.order[:asked] if what == "tell"]
        assert [trial.number for trial in found.complete_before(number)] == told


def test_a_recipe_is_read_where_it_is_wanted():
    """A ledger's line is read without its recipe; names that look like its ends change nothing."""
    event = record(*[{}] * 6).trials[5].ask_event()
    event["name"] = 'x","recipe":{},"vector":[]'
    event["recipe"]["experts"] = {"a": ',"vector":', "b": '"recipe":'}
    for parameter in event["recipe"]["parameters"].values():
        parameter |= {"a": parameter.pop("x"), "b": parameter.pop("y")}
    for separators in ((",", ":"), (", ", ": ")):
        line = json.dumps(event, separators=separators).encode() + b"\n"
        trial = Record.of([parse(line)]).trials[5]
        assert (trial.name, trial.vector) == (event["name"], tuple(event["vector"]))
        assert trial.recipe == Recipe.from_dict(event["recipe"])
        assert trial.ask_event() == event
