import numpy as np
import pytest

from evomerge.recipes import Layout
from evomerge.recipes.groups import PARTS, place
from evomerge.search.page.heat import Grid
from tests.recipes.test_groups import LLAMA
from tests.search.page.ledgers import EXPERTS, SPACE, space

LAYOUT = Layout.of(LLAMA)


def cell_of(tensor, drawn):
    where = place(tensor)
    row = drawn["rows"].index(where.kind if where.layer is None else f"layers.{where.layer}")
    return row, drawn["columns"].index(where.part if where.layer is not None and len(drawn["columns"]) > 1 else "all")


@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("own", [[], ["embeddings", "head"]])
def test_every_tensor_finds_its_value_in_its_cell(split, own):
    made = space({**SPACE, "split": split, "own": own})
    recipe = made.recipe(np.random.default_rng(0).random(len(made)))
    grid = Grid(LAYOUT, [recipe])
    drawn = grid.draw(recipe)
    assert drawn["columns"] == (["all", *PARTS] if split else ["all"])
    for tensor in LLAMA:
        row, column = cell_of(tensor, drawn)
        for name in ("weight", "drop_rate"):
            for expert in EXPERTS:
                value = drawn["parameters"][name][expert][row][column]
                assert value == pytest.approx(recipe.parameter(name, expert, tensor), rel=1e-5)
    if split:
        embeddings = drawn["parameters"]["weight"]["code"][drawn["rows"].index("embeddings")]
        assert embeddings[1:] == [None] * 3


def test_all_recipes_of_a_run_have_one_shape():
    made = space({**SPACE, "split": True})
    fine, plain = made.recipe([0.5] * len(made)), made.uniform("task_arithmetic", dict.fromkeys(EXPERTS, 0.3))
    grid = Grid(LAYOUT, [fine, plain])
    assert grid.draw(plain)["columns"] == ["all", *PARTS]
    assert set(grid.draw(plain)["parameters"]) == {"weight"}
    rows = grid.draw(plain)["parameters"]["weight"]["code"]
    assert {value for row in rows for value in row} == {0.3, None}


def test_options_with_numbers_are_of_all_experts():
    made = space({**SPACE, "options": {"lambda": {"low": 0.5, "high": 2.0, "granularity": "layer"}, "rescale": "l1"}})
    recipe = made.recipe([0.5] * len(made))
    drawn = Grid(LAYOUT, [recipe]).draw(recipe)
    assert list(drawn["parameters"]["lambda"]) == ["all"]
    assert drawn["parameters"]["lambda"]["all"][1] == [1.25]
    assert "rescale" not in drawn["parameters"]


def test_mean_and_spread_are_those_of_the_recipes():
    made = space()
    recipes = [made.recipe(vector) for vector in np.random.default_rng(0).random((5, len(made)))]
    found = Grid(LAYOUT, recipes).mean_and_spread(recipes)
    values = [recipe.parameter("weight", "math", "model.layers.1.mlp.up_proj.weight") for recipe in recipes]
    row = found["mean"]["rows"].index("layers.1")
    assert found["mean"]["parameters"]["weight"]["math"][row] == [pytest.approx(np.mean(values), rel=1e-5)]
    assert found["spread"]["parameters"]["weight"]["math"][row] == [pytest.approx(np.std(values, ddof=1), rel=1e-4)]
    alone = Grid(LAYOUT, recipes).mean_and_spread(recipes[:1])
    assert alone["spread"]["parameters"]["weight"]["math"][row] == [None]


def test_recipes_of_other_methods_count_where_they_have_a_value():
    made = space()
    dare, plain = made.recipe([0.5] * len(made)), made.uniform("task_arithmetic", dict.fromkeys(EXPERTS, 0.25))
    found = Grid(LAYOUT, [dare, plain]).mean_and_spread([dare, plain])["mean"]["parameters"]
    assert found["weight"]["code"][1] == [0.5]
    assert found["drop_rate"]["code"][1] == [0.45]


def test_without_a_layout_rows_are_the_groups_of_the_candidates():
    made = space()
    recipe, plain = made.recipe([0.5] * len(made)), made.uniform("task_arithmetic", dict.fromkeys(EXPERTS, 0.3))
    grid = Grid(None, [recipe, plain])
    drawn = grid.draw(recipe)
    assert drawn["rows"] == [*recipe.parameters["weight"]["code"]]
    assert drawn["parameters"]["weight"]["code"][0] == [0.75]
    assert grid.draw(plain)["parameters"]["weight"]["code"] == [[0.3]] * len(drawn["rows"])
    assert Grid(None, []).draw(plain)["rows"] == []
