import pytest

from evomerge.search.plan.cost import Cost
from evomerge.search.plan.measured import Measured, Memory, Point
from evomerge.search.plan.total import Crew, raced, total
from evomerge.search.plan.work import Range, Step
from evomerge.search.racing import RacingSettings

RACING = RacingSettings(first=16, eta=2.0)


def measured(*others: float) -> Measured:
    """A merge takes 2 s; scoring 1 s, and 0.1 s an item more."""
    scoring = {"a": (Point(10, 0, Cost(2.0, 1.0)), Point(20, 0, Cost(3.0, 1.5)))}
    merges = (Cost(2.0, 1.0),)
    return Measured(
        Cost(10.0, 4.0), Cost(5.0, 5.0), merges, scoring, tuple(Cost(o, o) for o in others), Memory(0, 0, 0, 0), 1.0, ""
    )


STEPS = [
    Step("baselines", "search", Range(5, 5, 5), {"a": 40}),
    Step("candidates", "search", Range(30, 30, 30), {"a": 40}),
    Step("selection", "selection", Range(8, 10, 12), {"a": 90}),
    Step("report", "report", Range(4, 4, 4), {"a": 190}),
]


def test_a_search_is_the_sum_of_its_parts():
    found = total(measured(), STEPS, start=Cost(3.0, 1.0), optimizer="tpe", asking=Cost(6.0, 6.0), racing=None)
    likely = {phase.name: phase.seconds.likely for phase in found.phases}
    assert likely == pytest.approx(
        {
            "start": 18.0,
            "baselines": 5 * (2 + 5),
            "candidates": 30 * (2 + 5),
            "selection": 10 * (2 + 10),
            "report": 4 * (2 + 20),
            "optimizer": 6.0,
        }
    )
    assert found.seconds.likely == pytest.approx(sum(likely.values()))
    assert found.cpu == pytest.approx(10 + 35 * (1 + 2.5) + 10 * (1 + 5.0) + 4 * (1 + 10.0) + 6)
    assert found.seconds.low < 0.95 * found.seconds.likely < 1.05 * found.seconds.likely < found.seconds.high


def test_candidates_that_differ_widen_the_range():
    def width(*others: float) -> float:
        found = total(
            measured(*others), STEPS, start=Cost(0, 0), optimizer="tpe", asking=Cost(0, 0), racing=None
        ).seconds
        return (found.high - found.low) / found.likely

    assert width(1.0, 1.0) < width(0.5, 2.0)


def test_a_race_is_between_one_block_and_all_blocks():
    first, whole = raced(measured(), {"a": 48}, RACING)
    assert first.seconds == pytest.approx(1 + 1.6)
    assert whole.seconds == pytest.approx(3 * (1 + 1.6))  # three blocks of 16: the fixed part three times
    found = total(measured(), STEPS, start=Cost(0, 0), optimizer="tpe", asking=Cost(0, 0), racing=RACING)
    candidates = next(phase for phase in found.phases if phase.name == "candidates").seconds
    assert candidates.low < candidates.likely < candidates.high
    assert found.racing


def test_several_workers_take_less_time_as_far_as_there_are_processors():
    each = Cost(7.0, 3.5)
    assert Crew().seconds(30, each) == 30 * 7
    assert Crew(4, 8).seconds(30, each) == 8 * 7  # rounds of four
    assert Crew(4, 1).seconds(30, each) == 30 * 3.5  # one processor has all their work to do
    assert Crew(4, 8).seconds(2, each) == 7

    def seconds(**crew):
        found = total(
            measured(), STEPS, start=Cost(3, 1), optimizer="tpe", asking=Cost(6, 6), racing=None, crew=Crew(**crew)
        )
        return {phase.name: phase.seconds.likely for phase in found.phases}

    alone, several = seconds(), seconds(workers=3, processors=16)
    assert several["candidates"] == pytest.approx(alone["candidates"] / 3)
    assert [several[name] for name in ("start", "optimizer")] == [alone[name] for name in ("start", "optimizer")]
