import math

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.mergekit.export import to_mergekit
from evomerge.mergekit.reading import from_mergekit
from evomerge.mergekit.words import METHODS as MERGEKIT
from evomerge.mergekit.words import STOCHASTIC
from evomerge.merging import METHODS
from evomerge.merging.settings import settings as settings_at
from evomerge.recipes import Layout, Recipe
from evomerge.recipes.groups import value_at
from tests.mergekit.models import LAYERS, LAYOUT

BASE = "org/base"
EXPERTS = {"a": "org/code", "b": "org/math"}
WEIGHTS = {"a": 0.5, "b": 0.25, "c": 0.75}


def recipe(method="task_arithmetic", experts=EXPERTS, **changes):
    parameters = {"weight": {label: WEIGHTS[label] for label in experts}}
    return Recipe(method, BASE, experts, **{"parameters": parameters, **changes})


def exported(*arguments, **changes):
    return to_mergekit(recipe(*arguments, **changes), LAYOUT)


def test_the_arithmetic_is_in_float32_and_the_result_rounded_once():
    data, notes = exported()
    assert data == {
        "merge_method": "task_arithmetic",
        "base_model": BASE,
        "models": [
            {"model": "org/code", "parameters": {"weight": 0.5}},
            {"model": "org/math", "parameters": {"weight": 0.25}},
        ],
        "dtype": "float32",
        "out_dtype": "bfloat16",
    }
    assert notes == []


def test_density_is_what_is_not_dropped_without_noise():
    data, _ = exported("ties", parameters={"weight": 1, "drop_rate": {"a": 0.9, "b": {"layers.1": 0.7, "all": 0}}})
    assert [model["parameters"]["density"] for model in data["models"]] == [
        0.1,
        [{"filter": "layers.1.", "value": 0.3}, {"value": 1.0}],
    ]


def test_options_become_parameters_of_all_models():
    data, _ = exported("ties", options={"lambda": {"head": 2.0, "all": 1.0}, "normalize": False})
    assert data["parameters"] == {
        "normalize": False,
        "lambda": [{"filter": "lm_head", "value": 2.0}, {"value": 1.0}],
    }


def test_what_all_models_share_is_said_once():
    same = {"head": 0.5, "all": 0}
    data, _ = exported("ties", parameters={"weight": {"a": 1, "b": 2}, "drop_rate": {"a": same, "b": same}})
    assert [model["parameters"] for model in data["models"]] == [{"weight": 1.0}, {"weight": 2.0}]
    assert data["parameters"] == {"density": [{"filter": "lm_head", "value": 0.5}, {"value": 1.0}]}
    three = {"a": "org/code", "b": "org/math", "c": "org/prose"}
    data, _ = exported("ties", experts=three, parameters={"weight": {"a": 1, "b": 1, "c": 2}})
    assert "parameters" not in data


def test_a_method_without_base_names_it_where_it_is_no_input():
    data, notes = exported("linear")
    assert data["base_model"] == BASE
    (only,) = data["slices"]
    assert [source["model"] for source in only["sources"]] == ["org/code", "org/math"]
    assert {tuple(source["layer_range"]) for source in only["sources"]} == {(0, LAYERS)}
    assert notes == []


def test_two_stacks_of_layers_cannot_be_sliced():
    layout = Layout.of([*LAYOUT.tensors, "visual.blocks.0.attn.weight"])
    data, notes = to_mergekit(recipe("linear"), layout)
    assert "slices" not in data
    assert "base_model" not in data
    assert notes == ["the base is not carried over: config and tokenizer come from one of the experts"]


def test_slerp_starts_at_the_base_or_at_the_first_expert():
    one, _ = to_mergekit(Recipe("slerp", BASE, {"a": "org/code"}, options={"t": 0.3}), LAYOUT)
    assert (one["base_model"], [m["model"] for m in one["models"]]) == (BASE, ["org/code"])
    two, _ = to_mergekit(Recipe("slerp", BASE, EXPERTS, options={"t": 0.3}), LAYOUT)
    assert (two["base_model"], two["slices"][0]["base_model"]) == (BASE, "org/code")
    assert two["parameters"] == {"t": 0.3}


@pytest.mark.parametrize("method", ["nuslerp", "multislerp"])
def test_task_vectors_are_meant_where_a_base_is_named(method):
    for choice in (True, False):
        data, notes = exported(method, options={"task_vectors": choice})
        assert ("base_model" in data) == choice
        assert len(notes) == (not choice)
    data, _ = exported(method)
    assert ("base_model" in data) == (method == "nuslerp")


def test_the_steps_of_karcher_are_a_whole_number():
    data, _ = to_mergekit(Recipe("karcher", BASE, EXPERTS, options={"max_iter": 20}), LAYOUT)
    assert data["parameters"] == {"max_iter": 20}
    assert type(data["parameters"]["max_iter"]) is int


def test_metrics_become_weights():
    metrics = {"a": {"layers.1": 4.0, "all": 2.0}, "b": 1.0}
    made = Recipe("metrics_weighted", BASE, EXPERTS, parameters={"metric": metrics}, options={"power": 2})
    data, notes = to_mergekit(made, LAYOUT)
    assert data["merge_method"] == "linear"
    (listed, fallback) = data["slices"][0]["sources"][0]["parameters"]["weight"]
    assert listed["filter"] == "layers.1."
    assert math.isclose(listed["value"], 1 / 16)
    assert math.isclose(fallback["value"], 1 / 4)
    assert "metrics_weighted" in notes[0]


@pytest.mark.parametrize("method", ["task_arithmetic", "linear", "ties"])
def test_copied_tensors_become_weights_of_one_and_zero(method):
    data, notes = exported(method, options={"passthrough": {"head": "b"}})
    models = data["models"] if "models" in data else data["slices"][0]["sources"]
    assert [model["parameters"]["weight"] for model in models] == [
        [{"filter": "lm_head", "value": 0.0}, {"value": 0.5}],
        [{"filter": "lm_head", "value": 1.0}, {"value": 0.25}],
    ]
    assert "passthrough" in notes[0]


def named(notes, *words):
    assert len(notes) == len(words), notes
    for note, word in zip(notes, words, strict=True):
        assert word in note


def test_what_mergekit_cannot_be_told_is_named():
    drop = {"weight": 1, "drop_rate": 0.5}
    named(exported("dare_ties", parameters=drop, seed=7)[1], "inv_keep", "seed 7")
    named(exported("dare_linear", parameters=drop, options={"rescale": "l1"})[1], "seed 0")
    named(exported("dare_linear", parameters={"weight": 1, "drop_rate": 0})[1])
    named(exported("della", parameters=drop)[1], "seed 0")
    named(exported("ties", parameters=drop, options={"trim": "model"})[1], "trim: model")
    named(exported("ties", options={"trim": "model"})[1])
    named(exported("ties", options={"elect": {"head": "unweighted", "all": "weighted"}})[1], "elect: unweighted")
    named(exported("sce", parameters={}, options={"floor": 0.0})[1], "floor")
    named(exported("linear", options={"passthrough": {"head": "base"}})[1], "passthrough of chosen tensors is not")
    named(
        exported("ram", parameters={}, options={"passthrough": {"head": "a"}})[1],
        "passthrough of chosen tensors is not",
    )
    named(exported(vocabulary="union")[1], "vocabulary union")
    named(to_mergekit(Recipe("karcher", BASE, {"a": "org/code@v1"}), LAYOUT)[1], "revision 'v1'")


@pytest.mark.parametrize("method", ["pcb", "consensus", "widen"])
def test_methods_that_mergekit_lacks_are_refused(method):
    with pytest.raises(UsageError, match=f"mergekit has no method '{method}'"):
        exported(method)


def test_what_cannot_be_written_is_refused_in_one_line():
    with pytest.raises(UsageError, match="option task_vectors varies by group"):
        exported("nuslerp", options={"task_vectors": {"head": True, "all": False}})
    with pytest.raises(UsageError, match="'b' is the same model as expert 'a'"):
        exported("linear", experts={"a": "org/code", "b": "org/code"})
    with pytest.raises(UsageError, match="'a' is the same model as the base"):
        exported(experts={"a": BASE})
    with pytest.raises(UsageError, match="no intersection"):
        exported(vocabulary="intersection")
    with pytest.raises(UsageError, match="has to know the base"):
        exported("nuslerp", options={"task_vectors": False}, vocabulary="union")
    with pytest.raises(UsageError, match="unknown key 'wieght'; did you mean 'weight'"):
        exported(parameters={"wieght": 1})
    with pytest.raises(UsageError, match="unknown key 'lamda'; did you mean 'lambda'"):
        exported(options={"lamda": 1})


def test_every_method_of_mergekit_is_one_of_ours_with_the_same_words():
    """A method that gains a parameter must not lose it on the way."""
    places = {"elect", "floor", "passthrough", "rescale", "scale", "task_vectors", "trim"}
    for name, theirs in MERGEKIT.items():
        ours = METHODS[name]
        per_expert = {"density" if p.name == "drop_rate" else p.name for p in ours.parameters}
        assert per_expert | {"density", "scale"} >= set(theirs.per_model)
        assert per_expert <= set(theirs.per_model)
        options = {option.name for option in ours.options}
        assert options - places == set(theirs.shared) - {"rescale", "int8_mask"}
        for option in ours.options:
            if option.name in theirs.shared and option.name != "rescale":
                assert option.default == theirs.shared[option.name], (name, option.name)


# ---- there and back --------------------------------------------------------------------------------------------------


def _values(option):
    if option.name == "max_iter":
        return st.integers(1, 20).map(float)
    if option.choices:
        return st.sampled_from(option.choices)
    high = option.high if math.isfinite(option.high) else 2.0
    return st.floats(max(option.low, 0.0), min(high, 2.0)).map(lambda x: round(x, 6))


@st.composite
def _groups(draw, values):
    granularity = draw(st.sampled_from(["global", "layer", 2, 5]))
    own = draw(st.lists(st.sampled_from(["embeddings", "head", "norms"]), unique=True))
    groups = LAYOUT.divide(granularity, split=draw(st.booleans()), own=own)
    return {group: draw(values) for group in groups}


@st.composite
def _recipes(draw):
    name = draw(st.sampled_from(sorted(MERGEKIT)))
    method = METHODS[name]
    fewest, most = method.experts
    count = draw(st.integers(fewest, int(min(most, 3))))
    labels = draw(st.permutations(["code", "math", "prose"]))[:count]
    left_out = ("trim", "elect", "floor", "task_vectors", "rescale")  # not mergekit's
    options = {o.name: draw(_groups(_values(o))) for o in method.options if o.name not in left_out}
    if name in STOCHASTIC:
        options["rescale"] = {"all": "l1"}
    if name in ("nuslerp", "multislerp"):
        options["task_vectors"] = {"all": draw(st.booleans())}
    parameters = {
        parameter.name: {label: draw(_groups(_values(parameter))) for label in labels}
        for parameter in method.parameters
    }
    experts = {label: f"org/{label}" for label in labels}
    dtype = draw(st.sampled_from(["bfloat16", "float32"]))
    return Recipe(name, BASE, experts, parameters=parameters, options=options, dtype=dtype)


@given(made=_recipes())
@settings(max_examples=80, deadline=None)
def test_a_recipe_comes_back_with_the_same_values_at_every_tensor(made):
    data, _ = to_mergekit(made, LAYOUT)
    back, notes = from_mergekit(yaml.safe_load(yaml.safe_dump(data)), LAYOUT, base=BASE)
    assert (back.method, back.base, back.dtype) == (made.method, made.base, made.dtype)
    assert dict(back.experts) == dict(made.experts)
    method = METHODS[made.method]
    for tensor in LAYOUT.tensors:
        there, again = settings_at(made, method, tensor), settings_at(back, method, tensor)
        drops = any(values.get("drop_rate") for values in there.parameters)
        assert again.parameters == there.parameters
        expected, got = dict(there.options), dict(again.options)
        if "rescale" in expected and not drops:  # nothing to rescale
            expected.pop("rescale"), got.pop("rescale")
        assert got == expected
    assert all("masks" in note for note in notes), notes


def test_the_choice_of_copies_comes_back_as_weights():
    data, _ = exported(options={"passthrough": {"head": "b"}})
    back, _ = from_mergekit(data, LAYOUT)
    weights = {label: value_at(groups, "lm_head.weight") for label, groups in back.parameters["weight"].items()}
    assert weights == {"code": 0.0, "math": 1.0}
