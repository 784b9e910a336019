import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.mergekit.cells import to_groups
from evomerge.recipes.groups import place, value_at
from tests.mergekit.models import LAYOUT


def by(function):
    return {name: function(place(name)) for name in LAYOUT.tensors}


def test_the_shortest_groups_are_found():
    assert to_groups(by(lambda p: 0.5), "x") == {"all": 0.5}
    assert to_groups(by(lambda p: 0.5 if p.layer is None else 0.7), "x") == {"all": 0.5, "layers": 0.7}
    assert to_groups(by(lambda p: 0.1 if p.layer in (2, 3, 4) else 0.5), "x") == {
        "all": 0.5,
        "layers.2-4": 0.1,
    }
    assert to_groups(by(lambda p: {"mlp": 0.1, "attention": 0.2}.get(p.part, 0.5)), "x") == {
        "all": 0.5,
        "layers.attention": 0.2,
        "layers.mlp": 0.1,
    }
    apart = {"embeddings": 0.1, "norms": 0.2, "head": 0.3, "layers": 0.4}
    assert to_groups(by(lambda p: apart[p.kind]), "x") == apart, "none stands for all"
    by_layer_and_part = to_groups(by(lambda p: 0.1 if (p.layer, p.part) == (3, "mlp") else 0.5), "x")
    assert by_layer_and_part == {"all": 0.5, "layers.3.mlp": 0.1}


def test_values_that_differ_inside_a_group_are_refused_naming_two_tensors():
    values = {name: 0.1 if "q_proj" in name else 0.5 for name in LAYOUT.tensors}
    with pytest.raises(UsageError) as refused:
        to_groups(values, "mergekit: weight")
    text = str(refused.value)
    assert "layers.0.self_attn.q_proj.weight" in text
    assert "layers.0.self_attn.o_proj.weight" in text
    assert "\n" not in text


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_any_values_of_cells_come_back(data):
    cells = sorted({place(name) for name in LAYOUT.tensors}, key=repr)
    some = st.sampled_from([0.0, 0.5, 1.0])
    chosen = {cell: data.draw(some) for cell in cells}
    values = by(chosen.__getitem__)
    groups = to_groups(values, "x")
    assert {name: value_at(groups, name) for name in LAYOUT.tensors} == values
