import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.merging.methods import METHODS, PASSTHROUGH
from evomerge.recipes import Layout, SearchSpace
from tests.recipes.test_groups import LLAMA

KNOWS = {name: {p.name: p.default for p in (*m.parameters, *m.options, PASSTHROUGH)} for name, m in METHODS.items()}


def space(**config):
    return SearchSpace(
        base="b",
        experts={"math": "m", "code": "c"},
        layout=Layout.of(LLAMA),
        config={
            "methods": ["dare_linear"],
            "granularity": 2,
            "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0.0, "high": 0.9}},
            **config,
        },
        method_parameters=KNOWS,
    )


def test_dimensions_have_names_experts_and_layers():
    made = space()
    assert len(made) == 2 * 2 * 6
    assert made.dimensions[1].name == "weight.code.layers.0-1"
    assert made.dimensions[1].layer == 0.5
    assert made.dimensions[0].layer is None


@given(st.data())
@pytest.mark.parametrize("own", [[], ["embeddings", "head"]])
@pytest.mark.parametrize("granularity", ["global", 2, "layer"])
def test_vector_and_recipe_are_inverse(granularity, own, data):
    made = space(
        granularity=granularity, own=own, methods=["dare_linear", "ties"], options={"lambda": {"low": 0.5, "high": 2}}
    )
    vector = data.draw(st.lists(st.floats(0, 1), min_size=len(made), max_size=len(made)))
    recipe = made.recipe(vector)
    back = made.vector(recipe)
    assert back is not None
    assert back[1:] == pytest.approx(vector[1:], abs=1e-12)
    assert made.recipe(back).method == recipe.method


def test_corners_hit_the_bounds_exactly():
    made = space(granularity="global", own=[])
    high = made.recipe([1.0] * len(made))
    assert high.parameters["weight"]["math"] == {"all": 1.5}
    assert high.parameters["drop_rate"]["code"] == {"all": 0.9}


def test_baselines_lie_in_the_space():
    made = space()
    uniform = made.uniform("task_arithmetic", {"math": 0.75, "code": 0.75})
    vector = made.vector(uniform)
    assert vector is not None
    assert set(vector) == {0.5, 0.0}  # weight in the middle of its box, nothing dropped
    assert made.vector(made.uniform("task_arithmetic", {"math": 2.0, "code": 0.0})) is None, "out of bounds"
    assert made.vector(made.uniform("linear", {"math": 0.5, "code": 0.5})) is None, "another method"
    assert made.vector(uniform.with_(seed=9)) is None, "another mask seed"


def test_a_parameter_has_its_own_granularity_and_fixed_values_are_no_dimensions():
    made = space(parameters={"weight": {"low": 0, "high": 1, "granularity": "global", "own": []}, "drop_rate": 0.5})
    assert [d.name for d in made.dimensions] == ["weight.code.all", "weight.math.all"]
    recipe = made.recipe([0.25, 1.0])
    assert recipe.parameters["drop_rate"] == {"code": {"all": 0.5}, "math": {"all": 0.5}}
    assert made.vector(recipe) == (0.25, 1.0)
    assert made.vector(recipe.with_(parameters={**recipe.parameters, "drop_rate": {"code": 0.1, "math": 0.5}})) is None


def test_the_method_is_a_dimension_and_takes_only_what_it_knows():
    made = space(methods=["linear", "ties"])
    assert made.dimensions[0].choices == ("linear", "ties")
    assert "drop_rate" not in made.recipe([0.0] + [0.5] * (len(made) - 1)).parameters
    assert "drop_rate" in made.recipe([1.0] + [0.5] * (len(made) - 1)).parameters


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"granularty": 2}, "unknown key 'granularty'; did you mean 'granularity'"),
        ({"methods": ["dare_liner"]}, "did you mean 'dare_linear'"),
        ({"methods": []}, "methods is empty"),
        ({"parameters": {"wieght": {"low": 0, "high": 1}}}, "did you mean 'weight'"),
        ({"parameters": {"weight": {"low": 0, "hihg": 1}}}, "did you mean 'high'"),
        ({"parameters": {"weight": {"low": 1, "high": 1}}}, "must be below"),
        ({"parameters": {"weight": {"low": 0}}}, "both low and high"),
        ({"parameters": {"weight": 0.5}}, "nothing to search"),
        ({"parameters": {"weight": {"low": 0, "high": "x"}}}, "not a finite number"),
    ],
)
def test_bad_spaces_get_one_clear_line(config, message):
    with pytest.raises(UsageError, match=message):
        space(**config)


def test_vectors_of_the_wrong_length_or_outside_the_cube_are_errors():
    made = space()
    with pytest.raises(ValueError, match="coordinates"):
        made.recipe([0.5])
    with pytest.raises(ValueError, match="outside"):
        made.recipe([1.5] * len(made))
