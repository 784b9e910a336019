import pytest

from evomerge.search.plan.cost import Cost
from evomerge.search.plan.measured import Measured, Memory, Point, rates


def points(*pairs: tuple[int, float]) -> tuple[Point, ...]:
    return tuple(Point(items, 10 * items, Cost(seconds, 2 * seconds)) for items, seconds in pairs)


def extrapolate(found: tuple[Point, ...], items: int) -> Cost:
    line = rates(found)
    return line.fixed + line.item * items


def test_costs_follow_the_line_through_the_two_largest_measurements():
    found = points((4, 1.0), (16, 2.0), (48, 4.0))
    assert extrapolate(found, 48).seconds == pytest.approx(4.0)
    assert extrapolate(found, 80).seconds == pytest.approx(6.0)
    assert extrapolate(found, 32).seconds == pytest.approx(3.0)
    assert extrapolate(found, 80).cpu == pytest.approx(12.0)
    assert rates(found).tokens == 10
    assert rates(found).token.seconds == pytest.approx(2.0 / 32 / 10)


@pytest.mark.parametrize("found", [points((8, 4.0)), points((4, 5.0), (8, 4.0)), points((4, 0.1), (8, 4.0))])
def test_without_a_line_that_makes_sense_costs_are_proportional(found):
    assert extrapolate(found, 16).seconds == pytest.approx(8.0)
    assert extrapolate(found, 2).seconds == pytest.approx(1.0)


def test_a_score_is_the_sum_of_the_tasks_times_what_other_candidates_took():
    scoring = {"a": points((10, 1.0)), "b": points((10, 3.0))}
    memory = Memory(0, 0, 0, 0)
    none = Cost(0.0, 0.0)
    alone = Measured(none, none, (Cost(1.0, 1.0), Cost(3.0, 2.0)), scoring, (), memory, 100.0, "")
    assert alone.merge == Cost(2.0, 1.5)
    assert alone.score({"a": 10, "b": 20}).seconds == pytest.approx(7.0)
    others = Measured(none, none, (none,), scoring, (Cost(2.0, 1.0), Cost(1.5, 1.0)), memory, 100.0, "")
    assert others.score({"a": 10, "b": 20}).seconds == pytest.approx(7.0 * 1.5)
    assert others.score({"a": 10, "b": 20}).cpu == pytest.approx(14.0)
