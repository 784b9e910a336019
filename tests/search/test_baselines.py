from evomerge.merging import METHODS, check, parameter_defaults
from evomerge.recipes import Layout, SearchSpace
from evomerge.search.baselines import baselines
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
    made = baselines(space, [0.4, 2.0])
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
        made = baselines(space, [0.4])
        assert [b.name for b in made] == ["base", "code", "math", "average", "arithmetic 0.4"]
        assert all(b.vector is None for b in made)
        for baseline in made:
            check(baseline.recipe, space.layout)
