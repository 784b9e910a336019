"""From a run to the recipe for a preference: one answer, in Python and on the command line."""

import json

import numpy as np
import pytest
import yaml

from evomerge.cli import main
from evomerge.errors import UsageError
from evomerge.optimizers import Objective, fit_surrogates
from evomerge.optimizers.map import Answers, amortise
from evomerge.recipes import Recipe
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import LEDGER_VERSION
from evomerge.search.opening import open_pool, open_spaces
from evomerge.search.predicted import Predictions, predicted_page
from evomerge.search.preferred import predicted_choice
from tests.search.test_config import composed

PREFERENCES = ({"zoo_math": 1.0}, {"zoo_math": 0.3, "zoo_code": 0.7}, {"zoo_code": 2.0}, {})


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the zoo, its scores made up: each task is best where one expert's weight is 1."""
    path = tmp_path_factory.mktemp("runs") / "run"
    path.mkdir()
    data = composed("experiment=quickstart", "space=global")
    (path / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    (path / "ledger.jsonl").write_text(json.dumps({"event": "begin", "version": LEDGER_VERSION}) + "\n")
    config = SearchConfig.from_dict(data)
    space = open_spaces(config, open_pool(config))[-1].space
    rng = np.random.default_rng(0)
    points = rng.random((60, len(space)))
    weights = [[d.name for d in space.dimensions].index(f"weight.{expert}.all") for expert in ("math", "code")]
    chances = np.exp(-3.0 * (points[:, weights] - 2 / 3) ** 2 - 2.0 * points[:, weights[::-1]] ** 2)
    answers = tuple((rng.random((1, 200)) < column[:, None]).astype(float) for column in chances.T)
    values = np.stack([scores.mean(axis=1) for scores in answers], axis=1)
    tasks = [Objective("zoo_math", 0.2, 0.7), Objective("zoo_code", 0.2, 0.7)]
    fitted = fit_surrogates(space.dimensions, tasks, points, values, np.full(values.shape, 200))
    front = amortise(fitted, Answers(tuple(range(60)), answers), [100, 100], seed=0)
    assert front is not None
    hashes = tuple(space.recipe(vector).hash for vector in front.vectors.tolist())
    found = Predictions(fitted, front, hashes)
    RunDirectory(path).write_json(RunDirectory(path).surrogates, found.to_dict())
    return path, found


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_one_recipe_for_a_preference_everywhere(run, tmp_path, capsys, prefer):
    path, found = run
    recipe, point = predicted_choice(path, prefer)
    assert recipe.hash == point.hash == found.best(prefer).hash
    words = [word for task, weight in prefer.items() for word in ("--prefer", f"{task}={weight:g}")]
    file = tmp_path / "recipe.yaml"
    assert main(["front", str(path), "--predicted", "--json", "--recipe", str(file), *words]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert best["hash"] == recipe.hash == Recipe.load(file).hash
    assert best["scores"]["zoo_math"]["predicted"] == point.scores["zoo_math"][0]
    assert predicted_page(path)["points"]["hash"].count(recipe.hash) == 1
    assert main(["front", str(path), "--predicted", *words]) == 0
    shown = capsys.readouterr().out
    assert recipe.hash in shown
    command = " ".join(["next: evomerge export", str(path), "my-model --predicted", *words])
    assert shown.splitlines()[-1].startswith(command)


def test_a_run_whose_space_has_changed_is_refused(run, tmp_path):
    path, _ = run
    for name in ("config.yaml", "ledger.jsonl", "surrogates.json"):
        (tmp_path / name).write_bytes((path / name).read_bytes())
    data = yaml.safe_load((tmp_path / "config.yaml").read_text())
    data["space"]["parameters"]["weight"]["high"] = 1.25
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(UsageError, match="another space"):
        predicted_choice(tmp_path, {})


def test_weights_of_unknown_tasks_are_refused(run, capsys):
    assert main(["front", str(run[0]), "--predicted", "--prefer", "zoo_mth=1"]) == 2
    assert "did you mean 'zoo_math'" in capsys.readouterr().err
