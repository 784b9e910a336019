from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.merging.methods import METHODS, Operands, Settings, parameter_defaults
from evomerge.merging.settings import resolve
from evomerge.recipes import Layout, Recipe, SearchSpace
from evomerge.recipes.space import NEUTRAL, SPECIAL_CASE_OF
from tests.recipes.test_groups import LLAMA
from tests.search.test_config import composed, options

KNOWS = {name: parameter_defaults(name) for name in METHODS}


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


RANGE = {"low": 0.0, "high": 0.9}
SETTINGS: dict[str, list[Any]] = {
    "weight": [
        {"low": 0.0, "high": 1.5},
        {"low": -0.5, "high": 1.5, "granularity": 3, "own": ["head"], "split": True},
        {"shape": "lines", "alpha": {"low": 0.0, "high": 1.0}, "beta": {"low": -0.5, "high": 1.0}},
        {"shape": "lines", "alpha": 0.3, "low": 0.0, "high": 1.0},
        {"shape": "lines", "alpha": 0.3, "beta": 0.5},
        {"shape": "gradient", "anchors": 4, "low": 0.0, "high": 1.5},
        {"shape": "gradient", "anchors": 5, "low": -1.0, "high": 1.5},
        {"choices": [0.0, 0.5, 1.0], "granularity": "layer"},
        {"layers.0-2": 0.5, "all": 1.0},
        0.7,
    ],
    "drop_rate": [RANGE, {**RANGE, "granularity": "global"}, {"shape": "gradient", "anchors": 2, **RANGE}, 0.25],
    "epsilon": [{"low": 0.0, "high": 0.2}, 0.1],
}
OPTIONS: dict[str, list[Any]] = {
    "lambda": [{"low": 0.5, "high": 2.0}, {"shape": "lines", "low": 0.0, "high": 1.0}, 1.5],
    "t": [{"low": 0.0, "high": 1.0, **dividing} for dividing in ({}, {"granularity": "layer"}, {"split": True})],
    "rescale": [{"choices": ["inv_keep", "l1"]}, "l1"],
    "normalize": [{"choices": [True, False]}, {"choices": [True, False], "granularity": 2}, True],
    "passthrough": [{"choices": ["", "base", "math"], "granularity": "layer", "own": []}, {"head": "base"}, "code"],
    "tol": [{"low": 1e-6, "high": 1e-3}],
}


@st.composite
def spaces(draw):
    methods = draw(st.permutations(["dare_linear", "ties", "slerp", "karcher", "della_linear", "linear"]))
    methods = methods[: draw(st.integers(1, 4))]
    known = {name for method in methods for name in KNOWS[method]}
    return space(
        methods=methods,
        granularity=draw(st.sampled_from(["global", 2, "layer"])),
        own=draw(st.sampled_from([[], ["embeddings", "head"]])),
        parameters={n: draw(st.sampled_from(found)) for n, found in SETTINGS.items() if n in known},
        options={
            **{n: draw(st.sampled_from(found)) for n, found in OPTIONS.items() if n in known},
            "passthrough": OPTIONS["passthrough"][0],  # something is searched whatever the others are
        },
    )


@given(spaces(), st.data())
def test_vector_finds_the_point_of_every_recipe_of_every_kind_of_dimension(made, data):
    vector = data.draw(st.lists(st.floats(0, 1), min_size=len(made), max_size=len(made)))
    recipe = made.recipe(vector)
    back = made.vector(recipe)
    assert back is not None
    for dimension, there, here in zip(made.dimensions, vector, back, strict=True):
        if dimension.parameter != "method" and dimension.parameter not in KNOWS[recipe.method]:
            assert here in (0.0, 0.5), "what the method does not know lies where it is neutral, or in the middle"
        elif dimension.choices:
            assert dimension.value(here) == dimension.value(there)
        else:
            assert here == pytest.approx(there, abs=1e-9)
    again = made.recipe(back)
    assert again.method == recipe.method
    assert made.vector(again) == pytest.approx(back, abs=1e-9)


@given(spaces(), st.data())
def test_what_the_probes_have_covers_every_recipe(made, data):
    """Numbers lie between those of the probes, everything else is in one of them."""
    recipe = made.recipe(data.draw(st.lists(st.floats(0, 1), min_size=len(made), max_size=len(made))))
    probes = [probe for probe in made.probes() if probe.method == recipe.method]
    assert probes
    assert {probe.method for probe in made.probes()} == set(made.methods)
    settings = [(lambda r, n=n, e=e: r.parameters[n][e]) for n in recipe.parameters for e in made.experts]
    settings += [(lambda r, n=n: r.options[n]) for n in recipe.options]
    for setting in settings:
        for group, value in setting(recipe).items():
            there = [setting(probe)[group] for probe in probes]
            if isinstance(value, float):
                assert min(there) - 1e-12 <= value <= max(there) + 1e-12
            else:
                assert value in there


def test_dimensions_of_shapes_options_and_choices_have_readable_names():
    made = space(
        methods=["slerp", "dare_linear"],
        parameters={
            "weight": {"shape": "lines", "low": 0, "high": 1},
            "drop_rate": {"shape": "gradient", "anchors": 2, "low": 0, "high": 0.9},
        },
        options={
            "t": {"low": 0.0, "high": 1.0, "granularity": 3, "own": []},
            "lambda": {"low": 0.5, "high": 2.0},
            "rescale": {"choices": ["inv_keep", "l1"]},
        },
    )
    assert [d.name for d in made.dimensions] == [
        "method",
        "weight.code.alpha",
        "weight.code.beta",
        "weight.math.alpha",
        "weight.math.beta",
        "drop_rate.code.anchors.0",
        "drop_rate.code.anchors.1",
        "drop_rate.math.anchors.0",
        "drop_rate.math.anchors.1",
        "t.layers.0-2",
        "t.layers.3-4",
        "t.all",
        "lambda",
        "rescale",
    ]
    assert made.dimensions[-1].choices == ("inv_keep", "l1")
    assert made.dimensions[9].layer == 1.0
    slerp = made.recipe([0.0] + [0.5] * 13)
    assert slerp.parameters == {}
    assert slerp.options == {"t": {"layers.0-2": 0.5, "layers.3-4": 0.5, "all": 0.5}}


def test_an_option_takes_the_granularity_of_the_space_only_by_its_own_wish():
    made = space(methods=["slerp"], granularity="layer", parameters={}, options={"t": {"low": 0, "high": 1}})
    assert [d.name for d in made.dimensions] == ["t"]
    assert made.recipe([0.25]).options == {"t": {"all": 0.25}}


def test_a_shape_searched_is_the_shape_written_in_a_recipe():
    weight = {"shape": "lines", "alpha": {"low": 0.0, "high": 1.0}, "beta": {"low": 0.0, "high": 2.0}}
    made = space(parameters={"weight": weight})
    found = made.recipe([0.3, 0.25, 0.6, 0.5])
    written = {
        "code": {"shape": "lines", "layers": 5, "alpha": 0.3, "beta": 0.5},
        "math": {"shape": "lines", "layers": 5, "alpha": 0.6, "beta": 1.0},
    }
    assert Recipe("dare_linear", "b", {"math": "m", "code": "c"}, {"weight": written}).hash == found.hash


def test_vector_finds_what_lies_on_a_shape_however_it_is_written():
    made = space(parameters={"weight": {"shape": "lines", "low": 0.0, "high": 1.0}})
    flat = made.uniform("task_arithmetic", {"math": 0.5, "code": 1.0})
    assert made.vector(flat) == pytest.approx((1.0, 0.0, 0.5, 0.0)), "a uniform merge has no slope"
    rising = {"all": 0.2, "layers.1": 0.3, "layers.2": 0.4, "layers.3": 0.5, "layers.4": 0.6}
    at = {"math": rising, "code": 1.0}
    assert made.vector(flat.with_(parameters={"weight": at})) == pytest.approx((1.0, 0.0, 0.2, 0.4))
    for off in ({**rising, "layers.3": 0.5001}, {**rising, "head": 0.6}, {**rising, "layers.4.mlp": 0.5}):
        assert made.vector(flat.with_(parameters={"weight": {"math": off, "code": 1.0}})) is None
    steep = {"all": 0.2, "layers.1": 0.7, "layers.2": 1.2, "layers.3": 1.7, "layers.4": 2.2}
    assert made.vector(flat.with_(parameters={"weight": {"math": steep, "code": 1.0}})) is None, "beta is out of bounds"
    part = {"layers": 0.5, "embeddings": 0.5}
    assert made.vector(flat.with_(parameters={"weight": {"math": part, "code": 1.0}})) is None, "it fits no such model"


def test_fixed_values_may_have_groups():
    made = space(options={"passthrough": {"head": "base"}, "lambda": {"layers": 0.5, "all": 1.0}})
    recipe = made.recipe([0.5] * len(made))
    assert recipe.options == {"passthrough": {"head": "base"}, "lambda": {"layers": 0.5, "all": 1.0}}
    assert made.vector(recipe) is not None
    everywhere = {"all": "", "head": "base"}
    assert made.vector(recipe.with_(options={**recipe.options, "passthrough": everywhere})) is not None
    assert made.vector(recipe.with_(options={**recipe.options, "passthrough": {"norms": "base"}})) is None
    assert made.vector(recipe.with_(options={"passthrough": {"head": "base"}})) is None, "its lambda is 1 everywhere"


def test_vector_minds_what_the_space_never_sets():
    made = space()
    recipe = made.recipe([0.5] * len(made))
    assert made.vector(recipe.with_(options={"lambda": 1.0})) == made.vector(recipe), "1 is the default"
    for other in ({"lambda": 0.5}, {"rescale": "l1"}, {"passthrough": {"head": "base"}}):
        assert made.vector(recipe.with_(options=other)) is None
    assert made.vector(recipe.with_(vocabulary="union")) is None


def test_a_method_without_its_value_has_its_own_default():
    made = space(methods=["pcb"], parameters={"drop_rate": {"low": 0, "high": 1}, "weight": {"low": 0, "high": 2}})
    recipe = Recipe("pcb", "b", {"math": "m", "code": "c"})
    assert set(made.vector(recipe) or ()) == {0.9, 0.5}


def test_the_vocabulary_is_that_of_every_recipe():
    made = SearchSpace(
        base="b",
        experts={"math": "m"},
        layout=Layout.of(LLAMA),
        config={"methods": ["slerp"], "options": {"t": {"low": 0, "high": 1}}},
        method_parameters=KNOWS,
        vocabulary="union",
    )
    assert made.recipe([0.5]).vocabulary == made.uniform("linear", {"math": 1.0}).vocabulary == "union"
    assert made.vector(made.recipe([0.5])) == (0.5,)
    assert made.vector(made.recipe([0.5]).with_(vocabulary="same")) is None


@pytest.mark.parametrize("method", [method for methods in SPECIAL_CASE_OF.values() for method in methods])
def test_special_cases_plan_the_same_sum(method):
    def plan(name, **values):
        parameters = {n: d for n, d in KNOWS[name].items() if n in {p.name for p in METHODS[name].parameters}}
        options = {n: d for n, d in KNOWS[name].items() if n not in parameters}
        expert = {**parameters, **{n: v for n, v in values.items() if n in parameters}}
        settings = Settings(({**expert, "weight": 0.3}, {**expert, "weight": -0.7}), options)
        return METHODS[name].plan(cast(Operands, None), settings)  # with nothing dropped no tensor is looked at

    wanted = plan("task_arithmetic")
    assert plan(method, **NEUTRAL) == wanted
    assert plan(method, **NEUTRAL, gamma=0.2, epsilon=0.3) == wanted, "these play no part then"


def test_baselines_lie_in_spaces_of_methods_that_have_them_as_special_cases():
    weights = {"math": 0.75, "code": 0.75}
    for method in SPECIAL_CASE_OF["task_arithmetic"]:
        made = space(
            methods=["slerp", method],
            options={"t": {"low": 0, "high": 1}, "lambda": {"low": 0, "high": 2}, "normalize": False},
        )
        vector = made.vector(made.uniform("task_arithmetic", weights))
        assert vector is not None
        assert made.recipe(vector).method == method
        assert made.dimensions[0].value(vector[0]) == method
        assert vector[-2:] == (0.5, 0.5), "t is free, lambda is 1"
    for config in ({"methods": ["ties"]}, {"options": {"normalize": True}}, {"options": {"lambda": 0.5}}):
        assert space(**config).vector(space().uniform("task_arithmetic", weights)) is None
    high = {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0.1, "high": 0.9}}
    assert space(parameters=high).vector(space().uniform("task_arithmetic", weights)) is None


@pytest.mark.parametrize("method", sorted(METHODS))
def test_uniform_gives_weights_to_methods_that_have_them(method):
    recipe = space().uniform(method, {"math": 1.0, "code": 0.5})
    weighted = "weight" in KNOWS[method]
    assert recipe.parameters == ({"weight": {"code": {"all": 0.5}, "math": {"all": 1.0}}} if weighted else {})


def test_probes_show_a_method_that_cannot_merge_these_experts_and_values_out_of_bounds():
    three = {"a": "x", "b": "y", "c": "z"}
    for config, message in (
        ({"methods": ["dare_linear", "slerp"], "options": {"t": {"low": 0, "high": 1}}}, "1 to 2 experts, not 3"),
        ({"parameters": {"weight": 1.0, "drop_rate": {"low": 0, "high": 1.5}}}, "1.5 is outside"),
        (
            {"parameters": {"weight": 1.0, "drop_rate": {"shape": "lines", "low": 0, "high": 0.9}}},
            "layers.1: 1.125 is outside",
        ),
        ({"options": {"rescale": {"choices": ["inv_keep", "l1", "l3"]}}}, "'l3' is none of"),
    ):
        made = SearchSpace(
            base="b",
            experts=three,
            layout=Layout.of(LLAMA),
            config={"methods": ["dare_linear"], "parameters": {"weight": {"low": 0, "high": 1}}, **config},
            method_parameters=KNOWS,
        )
        with pytest.raises(UsageError, match=message):
            [resolve(probe, made.layout) for probe in made.probes()]


@pytest.mark.parametrize("method", options("method"))
def test_every_point_of_every_method_of_conf_can_be_built(method):
    made = space(**composed("space=layers", f"method={method}")["space"])
    for probe in made.probes():
        resolve(probe, made.layout)
    assert made.vector(made.recipe([0.5] * len(made))) is not None


@pytest.mark.parametrize("method", ["dare_linear", "dare_ties", "linear", "task_arithmetic", "ties", "any"])
def test_the_lines_of_conf_go_with_methods_that_have_weights(method):
    made = space(**{"granularity": "layer", **composed("space=lines", f"method={method}")["space"]})
    names = [d.name for d in made.dimensions if d.parameter == "weight"]
    assert names == ["weight.code.alpha", "weight.code.beta", "weight.math.alpha", "weight.math.beta"]
    assert all((d.low, d.high) == (0.0, 1.0) for d in made.dimensions if d.parameter == "weight")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"parameters": {"weight": {"shape": "lins"}}}, "'lins' cannot be searched; did you mean 'lines'"),
        ({"parameters": {"weight": {"shape": "swap", "bottom": 1}}}, "granularity: layer"),
        ({"parameters": {"weight": {"shape": "lines", "alfa": 1, "low": 0, "high": 1}}}, "did you mean 'alpha'"),
        ({"parameters": {"weight": {"shape": "lines", "alpha": {"low": 0, "high": 1}}}}, "lines: beta: needs both low"),
        (
            {"parameters": {"weight": {"shape": "lines", "alpha": {"lo": 0}}}},
            "alpha: unknown key 'lo'; did you mean 'lo",
        ),
        (
            {"parameters": {"weight": {"shape": "lines", "alpha": "x", "low": 0, "high": 1}}},
            "alpha: 'x' is not a finite",
        ),
        (
            {"parameters": {"weight": {"shape": "gradient", "low": 0, "high": 1}}},
            "anchors: None must be a whole number",
        ),
        (
            {"parameters": {"weight": {"shape": "gradient", "anchors": 6, "low": 0, "high": 1}}},
            "more than the models' 5",
        ),
        ({"parameters": {"weight": {"shape": "gradient", "anchors": 3}}}, "needs both low and high"),
        ({"parameters": {"weight": {"choices": ["a", "b"]}}}, "'a' is not a finite number"),
        ({"parameters": {"weight": {"layers": "x"}}}, "weight.layers: 'x' is not a finite number"),
        ({"options": {"rescale": {"choices": ["l1"]}}}, "two values or more"),
        ({"options": {"rescale": {"choices": "l1"}}}, "two values or more"),
        ({"options": {"rescale": {"choices": ["l1", "l1"]}}}, "equal values"),
        ({"options": {"rescale": {"choice": ["l1", "inv_keep"]}}}, "unknown key 'choice'"),
        ({"options": {"lambda": {"low": 0, "high": 1, "granularity": "layr"}}}, "granularity 'layr'"),
        ({"options": {"lambda": None}}, "None is not a finite number"),
        ({"granularty": 2}, "unknown key 'granularty'; did you mean 'granularity'"),
        ({"methods": ["dare_liner"]}, "did you mean 'dare_linear'"),
        ({"methods": []}, "methods is empty"),
        ({"methods": "slerp"}, r"write a list, \[slerp\]"),
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
