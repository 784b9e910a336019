"""Optimizers and seeds of a sweep, from ledgers of searches that never were."""

import json

import pytest

from evomerge.reporting.groups import group_difference, group_mean
from evomerge.reporting.statistics import holm
from evomerge.search.page.data import comparable, page_data
from evomerge.search.page.groups import compare, group_names
from evomerge.search.page.view import View
from tests.search.page.ledgers import GLOBAL, TASKS, Ledger, configuration
from tests.search.runs import here


def optimizer(name, **options):
    return {"name": name, "scalarization": "weighted_sum", "options": options}


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two optimizers with three seeds each, of which one finds better merges, and a run that has not got so far."""
    folder = tmp_path_factory.mktemp("sweep")
    for name, good in (("cmaes", 0.8), ("random", 0.4)):
        for seed in (1, 2, 3):
            ledger = Ledger(seed=seed, config=GLOBAL).start().search(4)
            for number in (0, 1, 2, 3):
                ledger.tell(number, [0.3] * 3, "selection")
            ledger.tell(6, [good + 0.02 * seed] * 3, "selection")
            ledger.write(folder / f"optimizer={name},seed={seed}", optimizer=optimizer(name), seed=seed)
    Ledger(seed=4, config=GLOBAL).start().search(2).write(folder / "young", optimizer=optimizer("tpe"), seed=9)
    return folder


def views(folder):
    return [View.open(path) for path in sorted(folder.iterdir()) if path.is_dir()]


def test_groups_are_compared_item_by_item(sweep):
    runs = views(sweep)
    found = compare(runs)
    assert [(group.name, len(group.runs)) for group in found.groups] == [("cmaes", 3), ("random", 3)]
    assert found.split == "selection"
    assert [runs[place].path.name for place in found.left_out] == ["young"]
    first, second = (
        [{t: runs[p].best.scores["selection"][t].scores for t in TASKS} for p in group.runs] for group in found.groups
    )
    anchors = runs[0].anchors
    assert found.groups[0].joined == group_mean(first, anchors, weights=runs[0].weights)
    expected = group_difference(first, second, anchors, weights=runs[0].weights)
    assert found.behind[0].low == expected.low
    assert found.behind[0].p == holm([expected.p])[0] < 0.05
    assert min(found.groups[0].scores) > max(found.groups[1].scores)


def test_runs_are_told_apart_by_all_that_bears_on_them():
    one = configuration(optimizer=optimizer("cmaes", population=8), budget={"candidates": 10})
    names = group_names(
        [
            one,
            {**one, "seed": 4, "workers": {"devices": 2}, "evaluation": {"outcomes": "/shared"}},
            {**one, "optimizer": optimizer("cmaes", population=16)},
            {**one, "optimizer": optimizer("random"), "budget": {"candidates": 20}},
        ]
    )
    assert names == [
        "cmaes options.population=8 budget.candidates=10",
        "cmaes options.population=8 budget.candidates=10",
        "cmaes options.population=16 budget.candidates=10",
        "random budget.candidates=20",
    ]


def test_one_run_is_not_compared(sweep):
    assert compare(views(sweep)[:1]) is None
    assert page_data(views(sweep)[:1])["comparison"] is None


def test_the_page_has_the_comparison(sweep):
    data = page_data(views(sweep))["comparison"]
    assert [row["name"] for row in data["groups"]] == ["cmaes", "random"]
    assert data["groups"][0]["behind"] is None
    assert data["groups"][1]["behind"]["low"] > 0
    json.dumps(data, allow_nan=False)


def test_lots_of_other_models_are_apart(sweep, tmp_path):
    models = {"base": "zoo:base", "experts": {"other": "zoo:code"}}
    other = Ledger(config=GLOBAL).start().search(2).write(tmp_path / "other", models=models)
    lots = comparable([*views(sweep), View.open(other)])
    assert [len(lot) for lot in lots] == [7, 1]


def test_the_command_line_reports_a_whole_sweep(sweep, tmp_path):
    done = here("report", str(sweep), "--out", str(tmp_path / "sweep.html"))
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["cmaes", "3"] in [line[:2] for line in lines]
    assert "worse" in next(line for line in lines if line[:1] == ["random"])
    assert "Not counted" in done.stdout
    assert "young" in done.stdout
    assert (tmp_path / "sweep.html").exists()
