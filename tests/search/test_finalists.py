"""Who is scored on the selection split, and who on the report split."""

from dataclasses import replace

import pytest

from evomerge.search.config import Selection
from evomerge.search.finalists import finalists, front_finalists, reported
from evomerge.search.record import Record, Trial
from evomerge.search.results import best_of, by_estimate, estimates, front, selected
from tests.search.records import answers, record

ITEMS = 40


def right(n):
    return answers(n, wrong=ITEMS - n)


def run(*candidates: tuple[int, int], random=(), untuned=()) -> Record:
    """Base, experts x and y, average and arithmetic 0.5 as they are; then others, by right answers of tasks a and b."""
    found = record(
        *({"search": {"a": right(a), "b": right(b)}} for a, b in [(8, 8), (28, 8), (8, 28), (18, 18), (20, 20)])
    )
    example = record(*({"search": {"a": right(8), "b": right(8)}} for _ in range(6))).trials[5]
    for kind, points in (("untuned", untuned), ("random", random), ("candidate", candidates)):
        for a, b in points:
            number = len(found.trials)
            trial = Trial(number, kind, f"{kind} {number}", example.recipe, example.vector)
            trial.scores = record({"search": {"a": right(a), "b": right(b)}}).trials[0].scores
            found.add(trial)
    return found


def stop(trial: Trial, *, items: int, mean: float) -> None:
    """Leave a trial with an estimate from its first items, as a race does."""
    trial.beaten_by = 0
    for task, score in trial.scores["search"].items():
        trial.scores["search"][task] = replace(
            score,
            mean=mean,
            error=0.1,
            by_item=score.by_item[:items],
            marks=score.marks[:items],
            places=tuple(range(items)),
        )


def select(found: Record, settings: Selection, **rights: tuple[int, int]) -> None:
    """Score the finalists on the selection split: by name, right answers of tasks a and b; the others have none."""
    for trial in finalists(found, settings):
        a, b = rights.get(trial.name.replace(" ", "_"), (0, 0))
        trial.scores["selection"] = record({"search": {"a": right(a), "b": right(b)}}).trials[0].scores["search"]


def names(trials):
    return [trial.name for trial in trials]


def test_every_kind_has_as_many_finalists_and_the_untuned_are_all_there():
    found = run(
        (20, 20), (24, 24), (22, 22), (21, 21), random=[(9, 9), (15, 15), (12, 12)], untuned=[(9, 9), (8, 8), (7, 7)]
    )
    chosen = names(finalists(found, Selection(finalists=2, chosen=1, front=0)))
    assert chosen[:3] == ["base", "x", "y"]
    assert chosen[3:6] == ["untuned 5", "untuned 6", "untuned 7"]
    assert chosen[6:] == ["arithmetic 0.5", "average", "random 9", "random 10", "candidate 12", "candidate 13"]


def test_a_failed_random_point_is_passed_over():
    found = run((20, 20), random=[(9, 9), (15, 15)])
    found.trials[5].scores.clear()
    assert "random 5" not in names(finalists(found, Selection(2, 1, 0)))


def test_one_stopped_early_never_wins_over_a_complete_one():
    found = run((20, 20), (21, 21), (22, 22), (23, 23), (40, 40))
    stop(found.trials[9], items=8, mean=1.0)
    worth = estimates(found)
    assert worth[9].joined[0] < 2.0, "shrunk"
    assert names(by_estimate(found, found.candidates, worth))[-1] == "candidate 9"
    assert "candidate 9" not in names(front(found))
    settings = Selection(9, 1, 9)
    select(found, settings, candidate_9=(40, 40), candidate_5=(20, 20))
    assert names(selected(found))[0] == "candidate 5"
    assert names(selected(found))[-1] == "candidate 9"


def test_unless_there_is_nothing_else():
    found = run((20, 20), (21, 21))
    for number in (5, 6):
        stop(found.trials[number], items=8, mean=0.5 + number / 100)
    assert names(front(found)) == ["candidate 6"]
    assert names(finalists(found, Selection(1, 1, 1)))[-1] == "candidate 6"


def test_a_raced_score_with_its_larger_error_is_shrunk_more():
    found = run(*((20 + i % 7, 20 + (3 * i) % 7) for i in range(20)))
    full, short = found.trials[11], found.trials[12]
    stop(short, items=8, mean=full.scores["search"]["a"].mean)
    worth = estimates(found)
    middle = 23 / ITEMS
    assert abs(worth[12].tasks["a"][0] - middle) < abs(worth[11].tasks["a"][0] - middle)
    assert worth[12].tasks["a"][1] > worth[11].tasks["a"][1]


def test_front_members_that_cover_most_go_on():
    found = run((28, 10), (10, 28), (21, 21), (26, 14), (14, 26), (12, 12))
    members = front(found)
    assert names(members) == [f"candidate {n}" for n in (5, 6, 7, 8, 9)]
    worth = estimates(found)
    assert names(front_finalists(found, worth, 1)) == ["candidate 7"]
    assert set(names(front_finalists(found, worth, 3))) == {"candidate 7", "candidate 8", "candidate 9"}
    assert len(front_finalists(found, worth, 99)) == 5
    chosen = names(finalists(found, Selection(finalists=1, chosen=1, front=3)))
    assert {"candidate 7", "candidate 8", "candidate 9"} <= set(chosen)
    assert len(chosen) == len(set(chosen))


def test_members_no_better_than_the_base_on_some_task_come_last():
    found = run((40, 4), (4, 40), (20, 20))
    assert names(front_finalists(found, estimates(found), 2)) == ["candidate 7", "candidate 5"]


def test_floors_come_first():
    found = run((28, 10), (16, 16), (20, 20), (12, 30))
    found.begin = {"objectives": {"a": {"floor": 0.35}, "b": {"floor": 0.45}}}
    assert names(front(found)) == ["candidate 7"]
    assert names(by_estimate(found, found.candidates, estimates(found)))[0] == "candidate 7"
    found.begin = {"objectives": {"a": {"floor": 0.6}, "b": {"floor": 0.6}}}
    assert names(front(found)) == ["candidate 7"], "all are below: the one that lacks least"
    rights = {"candidate_5": (26, 26), "candidate_6": (23, 40), "candidate_7": (24, 24), "candidate_8": (0, 40)}
    select(found, Selection(4, 1, 0), **rights)
    assert names(selected(found)) == ["candidate 5", "candidate 7", "candidate 6", "candidate 8"]


def test_weights_decide_who_is_best():
    found = run((28, 10), (10, 27), (12, 12), (11, 11))
    for weights, best in (((3.0, 1.0), "candidate 5"), ((1.0, 3.0), "candidate 6"), ((0.0, 1.0), "candidate 6")):
        found.begin = {"objectives": {task: {"weight": w} for task, w in zip("ab", weights, strict=True)}}
        assert names(by_estimate(found, found.candidates, estimates(found)))[0] == best


def test_the_report_has_the_best_of_each_kind_by_the_selection_split():
    found = run((20, 20), (22, 22), random=[(15, 15), (12, 12)], untuned=[(9, 9), (8, 8)])
    settings = Selection(finalists=2, chosen=1, front=0)
    assert best_of(found, "random") is None
    select(found, settings, random_8=(20, 20), untuned_6=(11, 11), average=(12, 12), candidate_9=(30, 30))
    assert names(reported(found, settings)) == ["base", "x", "y", "average", "untuned 6", "random 8", "candidate 9"]
    assert len(reported(found, replace(settings, chosen=2))) == 8


@pytest.mark.parametrize("count", [1, 3, 4, 30])
def test_estimates_of_few_and_of_many(count):
    found = run(*((20 + i % 5, 22) for i in range(count)))
    worth = estimates(found)
    assert set(worth) == set(found.trials)
    plain = {n: trial.scores["search"]["a"].mean for n, trial in found.trials.items()}
    unchanged = [n for n in worth if worth[n].tasks["a"][0] == plain[n]]
    assert set(range(5)) <= set(unchanged), "base, experts and uniform merges are no lucky ones of many"
    if count < 4:
        assert len(unchanged) == len(worth)
    assert all(error > 0 for estimate in worth.values() for _, error in [*estimate.tasks.values(), estimate.joined])
