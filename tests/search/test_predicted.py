import json
import re

import pytest

from evomerge.errors import UsageError
from evomerge.recipes import Recipe
from evomerge.search.baselines import baselines
from evomerge.search.config import Baselines
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.predicted import (
    predicted_json,
    predicted_page,
    predicted_recipe,
    predicted_table,
    predictions_of,
    read_predictions,
    summary,
    summary_line,
)
from evomerge.search.results import objectives
from tests.search.test_loop import SPACE, configuration, space, whole

STARTING = baselines(SPACE, Baselines((0.5, 1.0), (), 0))
PREFERENCES = ({"a": 1.0}, {"b": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 0.3, "b": 0.7}, {})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "a run"
    path.mkdir()
    config = configuration(
        optimizer={"name": "sobol", "scalarization": "weighted_sum", "options": {}},
        budget={"candidates": 60, "items": None, "seconds": None},
    )
    record, _ = whole(path, config=config)
    found = predictions_of(record, SPACE, STARTING)
    assert found is not None
    RunDirectory(path).write_json(RunDirectory(path).surrogates, found.to_dict())
    return path, record, found


def test_every_trial_that_lies_in_the_space_is_fitted(run):
    _, record, found = run
    assert len(found.surrogates.points) == len(record.trials)  # experts too, by the recipe that stands for them
    assert [o.name for o in found.surrogates.objectives] == ["a", "b"]
    assert found.surrogates.objectives == tuple(objectives(record, "search"))
    assert found.surrogates.trusted
    assert found.points.items == (20, 20)


def test_what_is_saved_says_the_same(run):
    path, _, found = run
    loaded = read_predictions(path)
    for prefer in PREFERENCES:
        assert loaded.best(prefer) == found.best(prefer)
    assert loaded.hashes == found.hashes


def test_a_preference_is_answered_without_scoring(run):
    """The landscape is known: a is best where x's weight is 0.9, b where y's is 0.6."""
    path, _, _ = run
    found = read_predictions(path)
    for prefer, expert, weight in (({"a": 1.0}, "x", 0.9), ({"b": 1.0}, "y", 0.6)):
        recipe = predicted_recipe(SPACE, found.best(prefer))
        values = recipe.parameters["weight"][expert]
        assert sum(values.values()) / len(values) == pytest.approx(weight, abs=0.25)
    data = predicted_json(path, {"a": 1.0, "b": 1.0})
    for score in data["best"]["scores"].values():
        assert score["predicted"] > 0.9
        assert score["promise"]["low"] < score["predicted"] <= score["promise"]["high"] + 0.05
        assert score["items"] == 20
    assert data["best"] in data["front"]
    json.dumps(data)


def test_hashes_are_those_of_the_recipes_also_after_their_text(run):
    path, _, found = run
    data = json.loads(json.dumps(found.to_dict()))["front"]
    for vector, text in list(zip(data["vectors"], data["hashes"], strict=True))[::5]:
        recipe = SPACE.recipe(vector)
        assert recipe.hash == Recipe.from_yaml(recipe.to_yaml()).hash == text
    parameters = predicted_json(path, {})["best"]["parameters"]
    assert list(parameters) == [dimension.name for dimension in SPACE.dimensions]


def test_another_space_is_refused(run):
    point = run[2].best({})
    for other in (space(granularity=1), space(parameters={"weight": {"low": 0, "high": 1.4}, "drop_rate": 0.0})):
        with pytest.raises(UsageError, match="another space"):
            predicted_recipe(other, point)


def page_choice(page, weights):
    """What a page does: plain loops over plain numbers."""
    best, least, most = -1, float("inf"), float("-inf")
    for index, values in enumerate(page["points"]["values"]):
        lacking = mean = total = 0.0
        for t, value in enumerate(values):
            low, high = page["low"][t], page["high"][t]

            def scaled(x, low=low, high=high):
                return x if low is None else (x - low) / (high - low)

            if page["floors"][t] is not None:
                lacking += max(scaled(page["floors"][t]) - scaled(value), 0.0)
            mean += weights[t] * scaled(value)
            total += weights[t]
        mean /= total
        if lacking < least or (lacking == least and mean > most):
            best, least, most = index, lacking, mean
    return best


def test_a_page_chooses_the_same_recipe(run):
    path, _, found = run
    page = json.loads(json.dumps(predicted_page(path)))
    assert page["tasks"] == ["a", "b"]
    for step in range(101):
        weights = [step / 100, 1 - step / 100]
        index = page_choice(page, weights)
        assert page["points"]["hash"][index] == found.best(dict(zip("ab", weights, strict=True))).hash
    columns = {key: len(column) for key, column in page["points"].items()}
    assert set(columns.values()) == {len(found.hashes)}
    assert page["command"] == f"evomerge export '{path}' OUT --predicted {{prefer}}"
    for low, high in zip(page["points"]["promise_low"], page["points"]["promise_high"], strict=True):
        assert all(0 <= a < b <= 1 for a, b in zip(low, high, strict=True))


def test_the_table_says_that_nothing_was_scored(run, capsys):
    predicted_table(run[0], {"a": 2.0})
    out = capsys.readouterr().out
    assert "Nothing was scored for them" in out
    assert "best is for a=2" in out
    assert "20 of a, 20 of b" in out
    assert "left-out R2" in out
    assert re.search(rf"^ *best .*{run[2].best({'a': 2.0}).hash}", out, re.MULTILINE)


def test_bad_predictions_are_refused_with_their_figures(run, tmp_path):
    _, _, found = run
    (tmp_path / "ledger.jsonl").write_text(json.dumps({"event": "begin", "version": LEDGER_VERSION}) + "\n")
    file = tmp_path / "surrogates.json"
    good = found.to_dict()
    values = good["surrogates"]["values"]
    noise = [[float(i * 7919 % 13) / 13, value] for i, (_, value) in enumerate(values)]
    for data, message in (
        (
            {**good, "surrogates": {**good["surrogates"], "values": noise}, "front": None},
            r"of a predicts too badly .*tau",
        ),
        ({**good, "front": None}, "half of the items"),
        ({**good, "front": {**good["front"], "hashes": ["x"]}}, "do not go together"),
        ({**good, "front": {}}, "this is no front"),
        ({"version": 2}, "damaged"),
        ({"version": 1}, "version 1 is not 2; run the same search again"),
        ([], "damaged"),
    ):
        file.write_text(json.dumps(data))
        with pytest.raises(UsageError, match=message):
            read_predictions(tmp_path)
        assert predicted_page(tmp_path) is None
    file.write_text("{")
    with pytest.raises(UsageError, match="damaged"):
        read_predictions(tmp_path)
    file.unlink()
    with pytest.raises(UsageError, match="no predictions here"):
        read_predictions(tmp_path)


def test_a_report_says_how_good_they_are(run):
    data = json.loads(json.dumps(summary(run[2])))
    assert data["a"]["r2"] > 0.5
    assert f"a {data['a']['r2']:.2f}, b {data['b']['r2']:.2f}; evomerge front RUN --predicted" in summary_line(data)
    data["b"]["trusted"] = False
    assert "too little to read a front from" in summary_line(data)
    assert summary(None) is None


def test_too_few_points_give_none(run):
    _, record, _ = run
    few = type(record)()
    few.begin = record.begin
    for number in (0, 1, 2):
        few.add(record.trials[number])
    assert predictions_of(few, SPACE, STARTING) is None
