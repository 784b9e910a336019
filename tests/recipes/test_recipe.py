import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.recipes import Recipe

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


@pytest.mark.parametrize(
    ("text", "message"),
    [
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
