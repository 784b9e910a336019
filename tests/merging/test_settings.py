from typing import Any

import pytest

from evomerge.errors import UsageError
from evomerge.merging import METHODS, check, get, parameter_defaults
from evomerge.merging.settings import settings
from evomerge.recipes import Layout, Recipe

LAYOUT = Layout.of(
    ["model.embed_tokens.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"]
)
EXPERTS = {"code": "c", "math": "m"}


def _recipe(method: str = "dare_linear", parameters: Any = None, **options: Any) -> Recipe:
    return Recipe(method, "b", EXPERTS, {"weight": 0.5} if parameters is None else parameters, options=options)


@pytest.mark.parametrize("name", METHODS)
def test_every_method_is_declared(name: str) -> None:
    method = METHODS[name]
    assert method.name == name
    assert method.meaning
    assert all(p.meaning for p in (*method.parameters, *method.options))
    names = [p.name for p in (*method.parameters, *method.options)]
    assert set(parameter_defaults(name)) == {*names, "passthrough"}
    assert len(set(names)) == len(names)
    # all that has no default, set
    experts = dict(list(EXPERTS.items())[: int(min(method.experts[1], 2))])
    needed = {p.name: 0.5 for p in method.parameters if p.default is None}
    options = {o.name: 0.5 for o in method.options if o.default is None}
    check(Recipe(name, "b", experts, needed, options=options), LAYOUT)


def test_methods_refuse_too_few_or_too_many_experts() -> None:
    with pytest.raises(UsageError, match="model_stock: merges at least 2 experts, not 1"):
        check(Recipe("model_stock", "b", {"a": "x"}), LAYOUT)
    with pytest.raises(UsageError, match="nuslerp: merges 2 experts, not 3"):
        check(Recipe("nuslerp", "b", {"a": "x", "b": "y", "c": "z"}, {"weight": 1}), LAYOUT)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (_recipe("dare_liner"), "unknown merge method 'dare_liner'; did you mean 'dare_linear'"),
        (_recipe(parameters={"wieght": 1}), "unknown key 'wieght'; did you mean 'weight'"),
        (_recipe("linear", {"weight": 1, "drop_rate": 0.1}), "unknown key 'drop_rate'"),
        (_recipe(lamda=1.0), "unknown key 'lamda'; did you mean 'lambda'"),
        (_recipe("ties", rescale="l1"), "unknown key 'rescale'"),
        (
            _recipe(parameters={"weight": 1, "drop_rate": {"code": 0.1, "math": 1.1}}),
            r"drop_rate.math.all: 1.1 is outside",
        ),
        (_recipe(parameters={"weight": 1, "drop_rate": -0.1}), r"-0.1 is outside \[0, 1\]"),
        (_recipe(parameters={"weight": "much"}), "'much' is not a number"),
        (_recipe(parameters={"weight": True}), "True is not a number"),
        (_recipe(normalize=1.0), "1.0 is none of True, False"),
        (_recipe(rescale="l2"), "'l2' is none of inv_keep, l1"),
        (_recipe(parameters={}), "parameter weight.code has no value"),
        (_recipe(parameters={"weight": {"code": 1, "math": {"layers.0": 1}}}), "weight.math: no group holds tensor"),
        (
            _recipe(parameters={"weight": {"code": 1, "math": {"layers": 1, "layers.0": 1, "all": 1}}}),
            "weight.math: groups 'layers' and 'layers.0' both hold",
        ),
        (_recipe("linear", {"weight": {"code": 1, "math": -1}}), "sum to zero"),
        (_recipe(parameters={"weight": {"code": 1, "math": {"layers.1-2": 1, "all": 1}}}), "the models have 2 layers"),
        (_recipe("linear", {"weight": {"code": 1, "math": {"all": 1, "layers.1": -1}}}), "layers.1.* sum to zero"),
    ],
)
def test_a_bad_recipe_is_refused_in_one_line(recipe: Recipe, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        check(recipe, LAYOUT)
    assert "\n" not in str(error.value)


def test_weights_that_cancel_are_fine_without_normalize() -> None:
    check(_recipe("linear", {"weight": {"code": 1, "math": -1}}, normalize=False), LAYOUT)


def test_values_come_from_the_group_and_defaults_fill_in() -> None:
    recipe = _recipe(parameters={"weight": {"code": {"layers.0": 0.1, "all": 0.2}, "math": 0.3}}, rescale="l1")
    at = settings(recipe, get("dare_linear"), "model.layers.0.mlp.up_proj.weight")
    assert at.parameters == ({"weight": 0.1, "drop_rate": 0.0}, {"weight": 0.3, "drop_rate": 0.0})
    assert at.options == {"lambda": 1.0, "rescale": "l1", "normalize": False, "passthrough": ""}
    assert settings(recipe, get("dare_linear"), "model.embed_tokens.weight").numbers("weight") == [0.2, 0.3]
