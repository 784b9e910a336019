from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.mergekit.filters import conditions
from evomerge.mergekit.settings import evaluate
from evomerge.recipes.groups import place
from tests.mergekit.models import LAYOUT


def looked_up(setting, tensor):
    return evaluate(setting, "number", tensor, 0.0, "weight")


def test_one_value_needs_no_filter():
    assert conditions(dict.fromkeys(LAYOUT.tensors, 0.5)) == 0.5


def test_parts_of_all_layers_need_one_filter_each():
    values = {name: {"attention": 0.1, "mlp": 0.2}.get(place(name).part, 0.3) for name in LAYOUT.tensors}
    assert conditions(values) == [
        {"filter": "mlp", "value": 0.2},
        {"filter": "self_attn", "value": 0.1},
        {"value": 0.3},
    ]


def test_layer_1_is_not_layer_11():
    values = {name: 0.9 if place(name).layer == 1 else 0.2 for name in LAYOUT.tensors}
    assert conditions(values) == [{"filter": "layers.1.", "value": 0.9}, {"value": 0.2}]


def test_a_name_that_is_part_of_another_comes_after_it():
    """`norm.weight` outside the layers against the norms of all layers."""
    values = {name: 0.9 if name == "norm.weight" else float(place(name).layer or 0) for name in LAYOUT.tensors}
    setting = conditions(values)
    assert {name: looked_up(setting, name) for name in values} == values


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_values_are_said_exactly(data):
    names = data.draw(
        st.lists(st.sampled_from(["a", "b", "ab", "a.b", "b.a.b", "a.1.b", "a.11.b", "c.a.1.b", "a.b.1"]), unique=True)
        if data.draw(st.booleans())
        else st.lists(st.sampled_from(LAYOUT.tensors), min_size=1, unique=True)
    )
    names = names or ["a"]
    values = {name: data.draw(st.sampled_from([0.0, 0.25, 1.0])) for name in names}
    setting = conditions(values)
    assert {name: looked_up(setting, name) for name in names} == values
