import numpy as np
import pytest

from evomerge.reporting.front import hypervolume
from evomerge.search.page.curves import Covered, baseline_lines, curves
from evomerge.search.page.view import View
from evomerge.search.results import by_estimate, estimates, normalised_points
from tests.search.page.ledgers import GLOBAL, Ledger
from tests.search.test_finalists import stop


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
def test_the_volume_of_points_as_they_come_is_that_of_all_of_them(objectives):
    rng = np.random.default_rng(objectives)
    points = rng.normal(0.3, 0.5, (40, objectives))
    covered = Covered(objectives)
    for count, point in enumerate(points, start=1):
        covered.add(point)
        assert covered.volume == pytest.approx(hypervolume(points[:count], np.zeros(objectives)))


def test_a_curve_ends_where_the_front_lies(view):
    found, record = curves(view), view.record
    worth = estimates(record)
    assert found["number"] == [number for what, number in record.order if what == "tell"]
    assert found["items"][-1] == sum(s.items for t in view.trials for s in t.scores["search"].values())
    assert found["seconds"][-1] == 2.0 * len(view.trials)
    first = len(view.trials) - len(record.candidates)
    assert found["best"][:first] == [None] * first
    assert found["hypervolume"][first] is not None
    best = by_estimate(record, record.candidates, worth)[0]
    assert found["best"][-1] == pytest.approx(worth[best.number].joined[0], rel=1e-5)
    points = normalised_points(record, view.front, worth)
    assert found["hypervolume"][-1] == pytest.approx(hypervolume(points, [0.0] * 3), rel=1e-5)
    for key in ("best", "hypervolume", "items"):
        values = [value for value in found[key] if value is not None]
        assert values == sorted(values)


def test_those_that_a_race_stopped_count_for_their_items_only(path):
    view = View.open(path)
    best = by_estimate(view.record, view.record.candidates, view.worth)[0]
    before = curves(view)
    again = View.open(path)
    stop(again.record.trials[best.number], items=8, mean=0.99)
    after = curves(again)
    assert after["items"][-1] == before["items"][-1] - 3 * 40
    others = [trial for trial in again.record.candidates if trial.complete]
    assert after["best"][-1] == pytest.approx(max(again.worth[t.number].joined[0] for t in others), rel=1e-5)


def test_what_lies_below_a_floor_covers_nothing(tmp_path):
    ledger = Ledger(config=GLOBAL).start().search(12)
    ledger.events[0]["objectives"] = {"code": {"weight": 1.0, "floor": 2.0}}
    found = curves(View.open(ledger.write(tmp_path / "run")))
    assert found["hypervolume"][-1] == 0.0
    assert found["best"][-1] is not None
    ledger.events[0]["objectives"] = {"code": {"weight": 1.0, "floor": 0.0}}
    assert curves(View.open(ledger.write(tmp_path / "run")))["hypervolume"][-1] > 0.0


def test_baselines_are_lines(view):
    lines = {line["name"]: line["joined"] for line in baseline_lines(view)}
    assert list(lines) == ["base", "best expert", "best uniform"]
    for kind, title in (("base", "base"), ("expert", "best expert"), ("uniform", "best uniform")):
        worth = [view.worth[trial.number].joined[0] for trial in view.record.of_kind(kind)]
        assert lines[title] == pytest.approx(max(worth), rel=1e-5)
