import numpy as np
import pytest

from evomerge.checkpoints import ModelPool
from evomerge.errors import UsageError
from evomerge.merging import METHODS, check, parameter_defaults, stream
from evomerge.recipes import Layout, SearchSpace
from evomerge.search.baselines import UNTUNED, baselines
from evomerge.search.config import Baselines
from tests.recipes.test_groups import LLAMA


def test_baselines_in_order_and_in_the_space():
    space = SearchSpace(
        base="b",
        experts={"math": "m", "code": "c"},
        layout=Layout.of(LLAMA),
        config={
            "methods": ["dare_linear"],
            "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0, "high": 0.9}},
        },
        method_parameters={"dare_linear": {"weight": None, "drop_rate": 0.0}},
    )
    made = baselines(space, Baselines((0.4, 2.0), (), 0))
    assert [b.name for b in made] == ["base", "code", "math", "average", "arithmetic 0.4", "arithmetic 2"]
    assert made[0].vector is not None
    assert set(made[0].vector) == {0.0}
    weights = [u for d, u in zip(space.dimensions, made[1].vector or (), strict=True) if d.parameter == "weight"]
    experts = [d.expert for d in space.dimensions if d.parameter == "weight"]
    assert all((u == 1 / 1.5) == (e == "code") and u in (0.0, 1 / 1.5) for e, u in zip(experts, weights, strict=True))
    assert made[1].recipe.method == "linear", "the expert itself, bit for bit"
    assert made[5].vector is None, "a weight of 2 is outside the box"


def test_searches_of_methods_without_weights_have_the_same_baselines():
    for method, values in (
        ("slerp", {"options": {"t": {"low": 0, "high": 1}}}),
        ("pcb", {"parameters": {"drop_rate": {"low": 0, "high": 1}}}),
    ):
        space = SearchSpace(
            base="b",
            experts={"math": "m", "code": "c"},
            layout=Layout.of(LLAMA),
            config={"methods": [method], **values},
            method_parameters={name: parameter_defaults(name) for name in METHODS},
        )
        made = baselines(space, Baselines((0.4,), (), 0))
        assert [b.name for b in made] == ["base", "code", "math", "average", "arithmetic 0.4"]
        assert all(b.vector is None for b in made)
        for baseline in made:
            check(baseline.recipe, space.layout)


def space(**more):
    return SearchSpace(
        base="b",
        experts={"math": "m", "code": "c"},
        layout=Layout.of(LLAMA),
        config={
            "methods": ["dare_linear"],
            "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0, "high": 0.9}},
            **more,
        },
        method_parameters={name: parameter_defaults(name) for name in METHODS},
    )


UNTUNED_NAMES = ("lines", "ties", "dare_ties")


def test_untuned_methods_are_the_published_ones():
    made = {b.name: b for b in baselines(space(), Baselines((), UNTUNED_NAMES, 0)) if b.kind == "untuned"}
    assert tuple(made) == UNTUNED_NAMES == tuple(UNTUNED)
    lines = made["lines"].recipe
    values = [
        lines.parameter("weight", "math", f"model.layers.{i}.mlp.up_proj.weight") for i in range(space().layout.layers)
    ]
    assert (values[0], values[-1]) == (0.5, 1.0)
    assert values == sorted(values)
    assert lines.parameter("weight", "math", "model.embed_tokens.weight") == 0.5
    for name, drop_rate in (("ties", 0.8), ("dare_ties", 0.5)):
        recipe = made[name].recipe
        assert recipe.method == name
        assert recipe.parameters["drop_rate"]["code"] == {"all": drop_rate}
        assert recipe.options == {"normalize": {"all": True}, "lambda": {"all": 1.0}}


def test_those_in_the_space_have_a_place_there():
    def places(**more):
        made = baselines(space(**more), Baselines((), UNTUNED_NAMES, 0))
        return {b.name: b.vector is not None for b in made if b.kind == "untuned"}

    assert places(granularity="layer") == {"lines": True, "ties": False, "dare_ties": False}
    ties = {
        "methods": ["ties"],
        "parameters": {"weight": {"low": 0, "high": 1.5}, "drop_rate": {"low": 0, "high": 0.9}},
    }
    assert places(**ties) == {"lines": False, "ties": True, "dare_ties": False}
    assert not any(places().values()), "one weight for all layers is no line"


def test_an_unknown_untuned_method_is_named():
    with pytest.raises(UsageError, match=r"baselines\.untuned.*tise.*ties"):
        baselines(space(), Baselines((), ("tise",), 0))


def test_a_model_of_one_layer_has_no_profile():
    one = SearchSpace(
        base="b",
        experts={"math": "m"},
        layout=Layout.of(["model.layers.0.mlp.up_proj.weight"]),
        config={"methods": ["dare_linear"], "parameters": {"weight": {"low": 0, "high": 1}}},
        method_parameters={name: parameter_defaults(name) for name in METHODS},
    )
    made = baselines(one, Baselines((), UNTUNED_NAMES, 0))
    assert [b.name for b in made if b.kind == "untuned"] == ["ties", "dare_ties"]


def test_random_points_are_of_the_space_and_of_their_seed():
    def points(seed, count=5):
        return [b for b in baselines(space(), Baselines((), (), count), seed=seed) if b.kind == "random"]

    before = repr(np.random.get_state())
    first = points(1)
    assert repr(np.random.get_state()) == before
    assert [b.name for b in first] == [f"random {i}" for i in range(5)]
    assert [b.vector for b in first] == [b.vector for b in points(1)]
    assert not {b.vector for b in first} & {b.vector for b in points(2)}
    assert points(1, 8)[:5] == first, "more points, the same first ones"
    for baseline in first:
        assert baseline.recipe == space().recipe(baseline.vector)
    units = np.array([b.vector for b in points(3, 400)])
    assert units.min() >= 0.0
    assert units.max() < 1.0
    assert np.abs(units.mean(axis=0) - 0.5).max() < 0.06, "uniform"


def test_all_of_them_can_be_built_from_the_models_that_ship_with_evomerge():
    experts = {label: f"zoo:{label}" for label in ("code", "math", "translate")}
    pool = ModelPool.open("zoo:base", experts)
    zoo = SearchSpace(
        base="zoo:base",
        experts=experts,
        layout=pool.layout,
        config={"methods": ["dare_linear"], "parameters": {"weight": {"low": 0, "high": 1.5}}},
        method_parameters={name: parameter_defaults(name) for name in METHODS},
    )
    made = baselines(zoo, Baselines((0.4,), UNTUNED_NAMES, 2))
    assert len(made) == 1 + 3 + 2 + 3 + 2
    for baseline in made:
        check(baseline.recipe, pool.layout)
        if baseline.kind == "untuned":
            assert all(bool(tensor.isfinite().all()) for _, tensor in stream(baseline.recipe, pool))
