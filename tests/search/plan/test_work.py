from dataclasses import replace

import pytest

from evomerge.cli.plan import compose
from evomerge.search.config import SearchConfig, Selection
from evomerge.search.finalists import finalists, reported
from evomerge.search.plan.work import Range, allowed_candidates, blocks, steps
from tests.search.test_finalists import run, select


def config(*overrides: str) -> SearchConfig:
    data, _ = compose(["models=zoo", *overrides])
    return SearchConfig.from_dict(data)


ITEMS = {split: {"zoo_math": 8, "zoo_code": 8} for split in ("search", "selection", "report")}


def by_phase(*overrides: str, candidates: int, baselines: int = 15) -> dict[str, Range]:
    found = steps(config(*overrides), ITEMS, baselines=baselines, candidates=candidates)
    return {step.phase: step.models for step in found}


def test_the_work_of_a_search_is_counted_by_the_rules_of_the_loop():
    models = by_phase("selection.finalists=4", "selection.front=6", "selection.chosen=2", candidates=50)
    assert models["baselines"] == Range(15, 15, 15)
    assert models["candidates"] == Range(50, 50, 50)
    # base, three experts, three untuned, four uniform merges, four candidates, and up to six of the front
    assert models["selection"] == Range(15, 18, 21)
    # base, three experts, the best uniform and untuned, two chosen
    assert models["report"] == Range(8, 8, 8)


def test_no_more_finalists_than_there_are_models():
    models = by_phase("selection.finalists=9", "selection.front=9", "baselines.grid=[]", candidates=3, baselines=8)
    assert models["selection"] == Range(11, 11, 11)  # all 8 baselines and all 3 candidates


def test_random_baselines_count():
    models = by_phase("baselines.random=6", "selection.finalists=2", "selection.front=0", candidates=5)
    assert models["selection"].likely == 1 + 3 + 3 + 2 + 2 + 2
    assert models["report"].likely == 1 + 3 + 3 + 1


@pytest.mark.parametrize(
    "candidates", [[(30, 10)], [(30, 10), (10, 30), (22, 22), (21, 21), (5, 5), (26, 20), (20, 26)]]
)
@pytest.mark.parametrize("finalists_wanted", [1, 3])
@pytest.mark.parametrize("front_wanted", [0, 2, 8])
def test_the_finalists_that_are_counted_are_those_that_are_found(candidates, finalists_wanted, front_wanted):
    settings = Selection(finalists=finalists_wanted, chosen=1, front=front_wanted)
    found = run(*candidates, random=[(20, 20)], untuned=[(22, 22)])
    select(found, settings)
    like = config(
        "~tasks.zoo_translate", "~models.experts.translate", "baselines={grid: [0.5], untuned: [ties], random: 1}"
    )
    step = steps(replace(like, selection=settings), ITEMS, baselines=7, candidates=len(candidates))
    assert step[2].models.low <= len(finalists(found, settings)) <= step[2].models.high
    assert step[3].models.likely == len(reported(found, settings))


def test_one_task_has_no_front():
    one = steps(config("~tasks.zoo_code", "~tasks.zoo_translate"), ITEMS, baselines=5, candidates=20)
    assert one[2].models.low == one[2].models.high


@pytest.mark.parametrize(
    ("overrides", "seconds", "expected"),
    [
        (["budget.candidates=7"], None, 7),
        (["budget.candidates=null", "budget.items=160"], None, 5),  # ten models of 16 items, five are baselines
        (["budget.candidates=null", "budget.seconds=100"], 4.0, 20),
        (["budget.candidates=null", "budget.seconds=100"], None, None),
        (["budget.candidates=7", "budget.seconds=100"], 50.0, 0),
        (["budget.candidates=3", "budget.items=160"], 1.0, 3),
    ],
)
def test_the_budget_that_ends_first_counts(overrides, seconds, expected):
    made = config(*overrides)
    assert allowed_candidates(made, ITEMS["search"], baselines=5, seconds_each=seconds) == expected


def test_items_that_are_not_known_allow_no_count():
    made = config("budget.candidates=null", "budget.items=160")
    assert allowed_candidates(made, {"zoo_math": None}, baselines=5, seconds_each=None) is None


def test_blocks_of_a_race_grow_and_cover_all_items():
    assert blocks(48, first=16, eta=2.0) == [16, 16, 16]
    assert blocks(100, first=8, eta=1.5) == [8, 4, 6, 9, 14, 21, 31, 7]
    assert blocks(5, first=16, eta=2.0) == [5]
