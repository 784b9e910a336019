"""The page of a real search in a real browser: what its sliders say is what its command builds."""

import shlex

import pytest

from evomerge.recipes import Recipe
from evomerge.search.predicted import read_predictions
from tests.browser import browser
from tests.search.runs import here, search_arguments

__all__ = ["browser"]  # the fixture
pytestmark = pytest.mark.slow

#: Two experts, one weight each: enough candidates for surrogates that are trusted.
SETTINGS = (
    *("method=task_arithmetic", "optimizer=sobol", "~models.experts.code", "budget.candidates=14"),
    *("items={search: 24, selection: 6, report: 4}", "baselines={grid: [0.5], untuned: []}"),
    *("selection.finalists=1", "selection.front=0", "evaluation.batch_size=24"),
)


def test_the_command_that_the_sliders_show_builds_the_recipe_that_they_show(browser, tmp_path):
    path = tmp_path / "my run"
    done = here(*search_arguments(path, *SETTINGS))
    assert done.returncode == 0, done.stderr
    found = read_predictions(path)
    browser.open(path / "report.html")
    text = "return document.querySelector(arguments[0]).textContent"
    shown = {}
    for math, translate in (("1", "1"), ("1", "0"), ("0", "1"), ("0.35", "0.8")):
        browser.run(
            """document.querySelectorAll(".slider input").forEach((input, i) => {
              input.value = arguments[i];
              input.dispatchEvent(new Event("input"));
            })""",
            math,
            translate,
        )
        command, recipe = (browser.run(text, place) for place in ("#preference .outcome pre", "#predicted-hash"))
        shown[command] = recipe
        assert recipe == found.best({"zoo_math": float(math), "zoo_translate": float(translate)}).hash
    assert len(set(shown.values())) > 1, "sliders change the recipe"
    assert browser.errors() == []
    assert browser.requests() == []

    words = shlex.split(command)
    assert words[:4] == ["evomerge", "export", str(path), "OUT"]
    built = here("export", str(path), str(tmp_path / "model"), *words[4:])
    assert built.returncode == 0, built.stderr
    assert f"recipe {recipe}" in built.stdout
    assert Recipe.load(tmp_path / "model" / "recipe.yaml").hash == recipe
    assert (tmp_path / "model" / "model.safetensors").exists()

    command = browser.run(text, ".verdict pre")
    best = here("export", str(path), str(tmp_path / "best"), *shlex.split(command)[4:])
    assert "as it was scored" in best.stdout
