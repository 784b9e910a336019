import math
from typing import Any

import pytest

from evomerge.errors import UsageError
from evomerge.recipes import Layout, SearchSpace
from evomerge.recipes.groups import finest_group
from tests.recipes.test_groups import LLAMA
from tests.recipes.test_space import KNOWS

RANGE = {"low": 0.0, "high": 1.5}
FINEST = {finest_group(tensor) for tensor in LLAMA}
EVEN = {expert: dict.fromkeys(FINEST, 1.0) for expert in ("code", "math")}


def space(norms: Any, **config: Any) -> SearchSpace:
    return SearchSpace(
        base="b",
        experts={"math": "m", "code": "c"},
        layout=Layout.of(LLAMA),
        config={"methods": ["dare_linear"], "granularity": 2, "parameters": {"weight": RANGE}, **config},
        method_parameters=KNOWS,
        squared_norms=norms,
    )


def importance(made: SearchSpace) -> dict[str, float]:
    return {dimension.name: dimension.importance for dimension in made.dimensions}


def test_a_group_is_as_important_as_the_norm_of_the_task_vector_in_it():
    norms = {"math": {**EVEN["math"], "layers.0.mlp": 6.0, "head": 0.0}, "code": EVEN["code"]}
    found = importance(space(norms, own=["head"]))
    # squares: layers 0-1 hold six finest groups, one of them 6; 2-3 hold six, 4 three, `all` embeddings and norms
    sizes = {"layers.0-1": math.sqrt(11), "layers.2-3": math.sqrt(6), "layers.4": math.sqrt(3), "all": math.sqrt(2)}
    mean = sum(sizes.values()) / 5
    for group, size in sizes.items():
        assert found[f"weight.math.{group}"] == pytest.approx(size / mean)
    assert found["weight.math.head"] == 0.0, "it changes nothing"
    assert found["weight.code.layers.0-1"] == found["weight.code.layers.2-3"]


@pytest.mark.parametrize("granularity", ["global", 2, "layer"])
@pytest.mark.parametrize("split", [False, True])
def test_the_mean_over_the_groups_of_an_expert_and_parameter_is_one(granularity, split):
    norms = {e: {g: (i % 5) ** 2 for i, g in enumerate(sorted(FINEST))} for e in ("code", "math")}
    drop_rate = {"low": 0.0, "high": 0.9, "granularity": 3}
    made = space(
        norms, granularity=granularity, split=split, parameters={"weight": RANGE, "drop_rate": drop_rate}
    ).dimensions
    for expert in ("code", "math"):
        for parameter in ("weight", "drop_rate"):
            own = [d.importance for d in made if d.expert == expert and d.parameter == parameter]
            assert sum(own) / len(own) == pytest.approx(1.0)


def test_the_numbers_of_a_shape_are_as_important_as_what_they_move():
    found = importance(space(EVEN, parameters={"weight": {"shape": "lines", "alpha": RANGE, "beta": RANGE}}))
    # 18 finest groups: alpha moves all of them, beta a layer's three by l / 4
    alpha, beta = math.sqrt(18), math.sqrt(sum(3 * (layer / 4) ** 2 for layer in range(5)))
    assert found["weight.math.alpha"] == pytest.approx(2 * alpha / (alpha + beta))
    assert found["weight.math.beta"] == pytest.approx(2 * beta / (alpha + beta))
    wide = {"shape": "lines", "alpha": {"low": 0.0, "high": 0.5}, "beta": {"low": -1.0, "high": 1.0}}
    found = importance(space(EVEN, parameters={"weight": wide}))
    assert found["weight.code.beta"] / found["weight.code.alpha"] == pytest.approx(4 * beta / alpha)
    fixed = importance(space(EVEN, parameters={"weight": {"shape": "lines", "alpha": 0.5, "beta": RANGE}}))
    assert set(fixed.values()) == {1.0}, "one number alone is the average"


def test_options_are_as_important_as_all_task_vectors_together():
    norms = {"math": {"layers.0.mlp": 3.0, "head": 1.0}, "code": {"layers.0.mlp": 1.0, "layers.4.rest": 4.0}}
    lambda_ = {"low": 0.5, "high": 2.0, "granularity": 4, "own": []}
    made = importance(space(norms, parameters={"weight": 1.0}, options={"lambda": lambda_}))
    assert made == pytest.approx({"lambda.layers.0-3": 2 / (5 / 3), "lambda.layers.4": 2 / (5 / 3), "lambda.all": 0.6})
    rescale = space(norms, options={"rescale": {"choices": ["inv_keep", "l1"]}}, methods=["dare_linear", "ties"])
    assert importance(rescale)["rescale"] == importance(rescale)["method"] == 1.0


@pytest.mark.parametrize("norms", [None, {"math": {}, "code": dict.fromkeys(FINEST, 0.0)}])
def test_what_is_not_known_is_one(norms):
    assert set(importance(space(norms)).values()) == {1.0}


def test_importance_may_be_switched_off_and_stays_with_another_configuration():
    norms = {"math": {"head": 1.0}, "code": {"head": 1.0}}
    on = space(norms, own=["head"])
    assert importance(on)["weight.math.head"] == 5.0
    finer = on.with_config({**on.config, "granularity": "layer"})
    assert importance(finer)["weight.math.head"] == 7.0
    assert finer.recipe([0.5] * len(finer)).experts == on.recipe([0.5] * len(on)).experts
    assert set(importance(on.with_config({**on.config, "importance": False})).values()) == {1.0}
    with pytest.raises(UsageError, match=r"space\.importance: write true or false, not 'yes'"):
        space(norms, importance="yes")


def test_dimensions_say_which_methods_know_them():
    options = {"lambda": {"low": 0.5, "high": 2.0}, "rescale": {"choices": ["inv_keep", "l1"]}}
    parameters = {"weight": RANGE, "drop_rate": {"low": 0.0, "high": 0.9, "granularity": "global", "own": []}}
    made = space(None, methods=["linear", "ties", "dare_linear"], parameters=parameters, options=options)
    methods = {dimension.parameter: dimension.methods for dimension in made.dimensions}
    assert methods == {
        "method": (),
        "weight": (),
        "drop_rate": ("ties", "dare_linear"),
        "lambda": ("ties", "dare_linear"),
        "rescale": ("dare_linear",),
    }
    for dimension in made.dimensions:
        for i, method in enumerate(made.methods):
            recipe = made.recipe([(i + 0.5) / 3] + [0.5] * (len(made) - 1))
            present = dimension.parameter in {"method", *recipe.parameters, *recipe.options}
            assert present == (method in (dimension.methods or made.methods))
    assert all(dimension.methods == () for dimension in space(None).dimensions), "one method, nothing to tell apart"
