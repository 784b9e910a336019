import pytest

from evomerge.optimizers.factory import OPTIMIZERS
from evomerge.recipes import Dimension
from evomerge.search.plan.asking import _along, asking
from evomerge.search.plan.cost import Cost

DIMENSIONS = [
    Dimension(f"weight.{expert}.layers.{layer}", "weight", expert=expert, group=f"layers.{layer}")
    for expert in ("a", "b")
    for layer in (0, 1)
]


@pytest.mark.parametrize("name", ["random", "cmaes", "tpe", "nsga2", "m2n2", "map"])
def test_every_kind_of_optimizer_can_be_asked(name):
    assert name in OPTIMIZERS
    found = asking(
        *(name, {}, DIMENSIONS, {"math": 8, "code": 8}),
        scalarization="weighted_sum",
        known=6,
        candidates=20,
        seed=1,
        seconds=30.0,
    )
    assert 0 < found.seconds < 60
    assert found.cpu >= 0


def test_no_candidates_cost_nothing():
    found = asking(
        *("tpe", {}, DIMENSIONS, {"math": 8}), scalarization="weighted_sum", known=3, candidates=0, seed=0, seconds=5.0
    )
    assert found == Cost(0.0, 0.0)


def test_costs_are_summed_along_straight_lines():
    found = [(0, Cost(0.0, 1.0)), (10, Cost(10.0, 1.0))]
    total = _along(found, 21)  # 0, 1, ... 10, then 10 ten times
    assert total.seconds == pytest.approx(55 + 100)
    assert total.cpu == pytest.approx(21)


def test_where_time_is_over_the_middle_stands_for_all():
    found = asking(
        *("gp", {}, DIMENSIONS, {"math": 8}), scalarization="weighted_sum", known=12, candidates=9, seed=0, seconds=0.0
    )
    assert found.seconds > 0
