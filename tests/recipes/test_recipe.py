import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.recipes import Recipe
from evomerge.recipes.shapes import gradient, lines

GROUPS = ["all", "embeddings", "head", "norms", "layers.0", "layers.1-3", "layers.4.mlp"]
finite = st.floats(allow_nan=False, allow_infinity=False)
group_values = st.dictionaries(st.sampled_from(GROUPS), finite, min_size=1)


def recipe(**changes):
    fields = {
        "method": "dare_linear",
        "base": "zoo:base",
        "experts": {"math": "zoo:math", "code": "zoo:code"},
        "parameters": {"weight": {"math": {"all": 0.5}, "code": {"layers.0-2": 0.25, "all": 1}}, "drop_rate": 0.1},
        "options": {"lambda": 1.0},
        "seed": 3,
    }
    return Recipe(**{**fields, **changes})


@given(
    st.fixed_dictionaries({"math": group_values, "code": group_values}),
    st.fixed_dictionaries({"math": group_values, "code": group_values}),
    st.integers(0, 2**63),
)
def test_yaml_round_trip(weight, drop_rate, seed):
    made = recipe(parameters={"weight": weight, "drop_rate": drop_rate}, seed=seed)
    again = Recipe.from_yaml(made.to_yaml())
    assert again == made
    assert again.hash == made.hash


def test_shorthands_mean_the_same():
    assert recipe(parameters={"weight": 0.5}) == recipe(parameters={"weight": {"math": 0.5, "code": {"all": 0.5}}})


def test_hash_depends_on_content_not_on_order_or_process():
    same = recipe(experts={"code": "zoo:code", "math": "zoo:math"})
    assert same.hash == recipe().hash
    for changes in ({"seed": 4}, {"method": "ties"}, {"base": "zoo:other"}, {"dtype": "float32"}, {"options": {}}):
        assert recipe(**changes).hash != recipe().hash
    program = "import sys; from evomerge.recipes import Recipe; print(Recipe.from_yaml(sys.stdin.read()).hash)"
    for hash_seed in ("1", "2"):
        out = subprocess.run(
            [sys.executable, "-c", program],
            input=recipe().to_yaml(),
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
        )
        assert out.stdout.strip() == recipe().hash


@given(st.data())
def test_any_order_of_experts_groups_and_names_gives_the_same_recipe(data):
    experts = {"a": "x", "b": "y", "c": "z"}
    values = st.fixed_dictionaries(dict.fromkeys(experts, group_values))
    parameters = data.draw(st.dictionaries(st.sampled_from(["weight", "drop_rate", "gamma"]), values, min_size=1))
    options = data.draw(st.dictionaries(st.sampled_from(["lambda", "rescale", "t"]), group_values))

    def shuffled(tree):
        if not isinstance(tree, dict):
            return tree
        return {key: shuffled(tree[key]) for key in data.draw(st.permutations(sorted(tree)))}

    first = recipe(experts=experts, parameters=parameters, options=options)
    other = recipe(experts=shuffled(experts), parameters=shuffled(parameters), options=shuffled(options))
    assert other == first
    assert other.hash == first.hash
    assert other.to_yaml() == first.to_yaml()


@given(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(GROUPS))
def test_one_other_value_gives_another_hash(value, group):
    weight = {"math": {group: value, "layers.9": 0.5}, "code": 1.0}
    moved = {"math": {group: value / 2 + 1, "layers.9": 0.5}, "code": 1.0}
    same = value == value / 2 + 1
    assert (recipe(parameters={"weight": weight}).hash == recipe(parameters={"weight": moved}).hash) == same


def test_the_default_vocabulary_leaves_the_hashes_of_older_runs_as_they_were():
    assert recipe().hash == "7a326b5c17e211de"
    assert recipe(vocabulary="same").hash == "7a326b5c17e211de"
    assert "vocabulary" not in recipe().to_dict()
    for vocabulary in ("base", "union", "intersection"):
        made = recipe(vocabulary=vocabulary)
        assert made.hash != recipe().hash
        assert made.to_dict()["vocabulary"] == vocabulary
        assert Recipe.from_yaml(made.to_yaml()) == made
        assert made.with_(seed=4).vocabulary == vocabulary


def test_passthrough_names_the_base_an_expert_or_nothing():
    made = recipe(options={"passthrough": {"head": "base", "layers.0": "math", "norms": ""}})
    assert Recipe.from_yaml(made.to_yaml()) == made
    assert made.options["passthrough"] == {"head": "base", "layers.0": "math", "norms": ""}
    assert recipe(options={"passthrough": "code"}).options["passthrough"] == {"all": "code"}


def test_a_shape_is_written_out_when_the_recipe_is_made():
    text = """
        method: dare_linear
        base: b
        experts: {code: c, math: m}
        parameters:
          weight:
            math: {shape: lines, layers: 4, alpha: 0.3, beta: 0.5}
            code: 0.5
          drop_rate: {shape: gradient, layers: 4, anchors: [0.1, 0.7]}
        options:
          lambda: {shape: gradient, layers: 4, anchors: [0, 1, 0]}
    """
    made = Recipe.from_yaml(text)
    assert made.parameters["weight"] == {"code": {"all": 0.5}, "math": lines(4, alpha=0.3, beta=0.5)}
    assert made.parameters["drop_rate"] == dict.fromkeys(("code", "math"), gradient(4, anchors=[0.1, 0.7]))
    assert made.options["lambda"] == gradient(4, anchors=[0.0, 1.0, 0.0])
    assert made.parameter("weight", "math", "model.layers.3.mlp.up_proj.weight") == 0.8
    written = made.to_yaml()
    assert "shape" not in written
    assert Recipe.from_yaml(written) == made
    by_hand = made.with_(parameters={**made.parameters, "weight": {"code": 0.5, "math": lines(4, alpha=0.3, beta=0.5)}})
    assert by_hand.hash == made.hash


def test_an_expert_may_be_called_shape():
    made = Recipe("ties", "b", {"shape": "x", "math": "y"}, {"weight": {"shape": {"layers": 0.5}, "math": 1.0}})
    assert made.parameters["weight"] == {"math": {"all": 1.0}, "shape": {"layers": 0.5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{method: ties, base: b, experts: {a: x}, vocabulary: unoin}",
            "vocabulary 'unoin' is none of same, base, uni",
        ),
        ("{method: ties, base: b, experts: {a: x}, vocabulary: [union]}", "vocabulary .* is none of"),
        (
            "{method: ties, base: b, experts: {math: x}, options: {passthrough: {head: maht}}}",
            "passthrough.head: there is no model 'maht'; did you mean 'math'",
        ),
        (
            "{method: ties, base: b, experts: {math: x}, options: {passthrough: 1}}",
            "passthrough.all: there is no model 1",
        ),
        ("{method: ties, base: b, experts: {base: x}, options: {passthrough: base}}", "also an expert's label"),
        (
            "{method: ties, base: b, experts: {a: x}, parameters: {weight: {a: {shape: lins}}}}",
            "recipe: weight.a: unknown shape 'lins'; did you mean 'lines'",
        ),
        (
            "{method: ties, base: b, experts: {a: x}, parameters: {weight: {shape: lines, layer: 4}}}",
            "recipe: weight.a: shape lines: unknown key 'layer'; did you mean 'layers'",
        ),
        (
            "{method: ties, base: b, experts: {a: x},"
            " options: {t: {shape: lines, layers: 3, alpha: 1.0e+308, beta: 1.0e+308}}}",
            "inf is not a finite number",
        ),
        ("{method: ties, base: b, experts: {a: x}, parameters: {weight: {a: {all: 1, 3: 2}}}}", "unknown group '3'"),
        (
            "{method: ties, base: b, experts: {a: x}, paramters: {}}",
            "unknown key 'paramters'; did you mean 'parameters'",
        ),
        ("{method: ties, base: b}", "'experts' is missing"),
        ("{method: ties, base: b, experts: {}}", "no experts"),
        ("{method: ties, base: b, experts: {a: x}, version: 9}", "version 9"),
        ("{method: ties, base: b, experts: {a: x}, dtype: int8}", "dtype 'int8'"),
        ("{method: ties, base: b, experts: {a: x}, seed: -1}", "seed"),
        ("{method: ties, base: b, experts: {a/b: x}}", "label"),
        ("{method: ties, base: b, experts: {a: x}, parameters: {weight: {b: 1}}}", "unknown key 'b'"),
        ("{method: ties, base: b, experts: {a: x, b: y}, parameters: {weight: {b: 1}}}", "no value for expert 'a'"),
        ("{method: ties, base: b, experts: {a: x}, parameters: {weight: {a: {layr: 1}}}}", "unknown group 'layr'"),
        ("{method: ties, base: b, experts: {a: x}, parameters: {weight: .nan}}", "finite"),
        ("{method: ties, base: b, experts: {a: x}, parameters: {weight: [1, 2]}}", "must be a number"),
        ("{method: [ties], base: b, experts: {a: x}}", "method must be a text"),
        ("{method: ties, base: b, experts: [a]}", "experts must be a mapping"),
        ("[1, 2", "not valid YAML"),
        ("just text", "expected a mapping"),
        ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_bad_recipes_get_one_clear_line(text, message):
    with pytest.raises(UsageError, match=message) as info:
        Recipe.from_yaml(text)
    assert "\n" not in str(info.value)


def test_load_names_the_file(tmp_path):
    with pytest.raises(UsageError, match=r"missing\.yaml"):
        Recipe.load(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("{}")
    with pytest.raises(UsageError, match=r"bad\.yaml.*'method' is missing"):
        Recipe.load(tmp_path / "bad.yaml")
