import json

import pytest

from evomerge.errors import UsageError
from evomerge.optimizers.map import Surrogates
from evomerge.search.baselines import baselines
from evomerge.search.config import Baselines
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.predicted import (
    predicted_json,
    predicted_recipe,
    predicted_table,
    read_surrogates,
    summary,
    summary_line,
    surrogates_of,
)
from evomerge.search.results import objectives
from tests.search.test_loop import SPACE, configuration, whole

STARTING = baselines(SPACE, Baselines((0.5, 1.0), (), 0))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    path.mkdir()
    config = configuration(
        optimizer={"name": "sobol", "scalarization": "weighted_sum", "options": {}},
        budget={"candidates": 60, "items": None, "seconds": None},
    )
    record, _ = whole(path, config=config)
    fitted = surrogates_of(record, SPACE, STARTING)
    assert fitted is not None
    RunDirectory(path).write_json(RunDirectory(path).surrogates, fitted.to_dict())
    return path, record, fitted


def test_every_trial_that_lies_in_the_space_is_fitted(run):
    _, record, fitted = run
    assert len(fitted.points) == len(record.trials)  # experts too, by the recipe that stands for them
    assert [o.name for o in fitted.objectives] == ["a", "b"]
    assert fitted.objectives == tuple(objectives(record, "search"))
    assert fitted.trusted


def test_what_is_saved_says_the_same(run):
    path, _, fitted = run
    found = read_surrogates(path)
    assert isinstance(found, Surrogates)
    assert found.best({"a": 1.0}) == fitted.best({"a": 1.0})


def test_a_preference_is_answered_without_scoring(run):
    """The landscape is known: a is best where x's weight is 0.9, b where y's is 0.6."""
    path, _, _ = run
    for prefer, expert, weight in (({"a": 1.0}, "x", 0.9), ({"b": 1.0}, "y", 0.6)):
        recipe = predicted_recipe(SPACE, read_surrogates(path), prefer)
        values = recipe.parameters["weight"][expert]
        assert sum(values.values()) / len(values) == pytest.approx(weight, abs=0.2)
    data = predicted_json(path, {"a": 1.0, "b": 1.0})
    assert data["best"]["values"][0] > 0.9
    assert data["best"]["values"][1] > 0.9
    assert all(
        low <= value <= high
        for p in data["front"]
        for low, value, high in zip(p["low"], p["values"], p["high"], strict=True)
    )
    json.dumps(data)


def test_the_table_says_that_nothing_was_scored(run, capsys):
    predicted_table(run[0], {})
    out = capsys.readouterr().out
    assert "nothing was scored for them" in out
    assert "left-out R2" in out


def test_bad_surrogates_are_refused_with_their_figures(run, tmp_path):
    _, _, fitted = run
    noise = fitted.to_dict()
    noise["values"] = [[float(i * 7919 % 13) / 13, value] for i, (_, value) in enumerate(noise["values"])]
    RunDirectory(tmp_path).write_json(RunDirectory(tmp_path).surrogates, noise)
    (tmp_path / "ledger.jsonl").write_text(json.dumps({"event": "begin", "version": LEDGER_VERSION}) + "\n")
    with pytest.raises(UsageError, match=r"surrogate of a predicts too badly .*Kendall tau"):
        read_surrogates(tmp_path)
    for text, message in (("{", "damaged"), ('{"version": 99}', "version 99")):
        (tmp_path / "surrogates.json").write_text(text)
        with pytest.raises(UsageError, match=message):
            read_surrogates(tmp_path)
    (tmp_path / "surrogates.json").unlink()
    with pytest.raises(UsageError, match="no surrogates here"):
        read_surrogates(tmp_path)


def test_a_report_says_how_good_they_are(run):
    data = json.loads(json.dumps(summary(run[2])))
    assert data["a"]["r2"] > 0.5
    assert f"a {data['a']['r2']:.2f}, b {data['b']['r2']:.2f}; evomerge front RUN --predicted" in summary_line(data)
    data["b"]["trusted"] = False
    assert "too little to read a front from" in summary_line(data)
    assert summary(None) is None


def test_too_few_points_give_none(run):
    _, record, _ = run
    few = type(record)(begin=record.begin, trials={n: record.trials[n] for n in (0, 1, 2)})
    assert surrogates_of(few, SPACE, STARTING) is None
