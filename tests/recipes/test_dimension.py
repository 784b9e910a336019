import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.recipes import Dimension


@given(st.floats(0, 1), st.floats(-3, 3), st.floats(1e-3, 5))
def test_value_and_unit_are_inverse_within_the_bounds(u, low, width):
    dimension = Dimension("x", "x", low=low, high=low + width)
    value = dimension.value(u)
    assert dimension.low <= value <= dimension.high
    assert dimension.unit(value) == pytest.approx(u, abs=1e-9)


@pytest.mark.parametrize("choices", [("a", "b", "c"), (True, False), (1.0, 2.0, 3.0, 0.0), (True, 1.0, "1")])
def test_every_choice_has_an_equal_part_and_keeps_its_type(choices):
    dimension = Dimension("x", "x", choices=choices)
    width = 1 / len(choices)
    for i, choice in enumerate(choices):
        for share in (0.01, 0.5, 0.99):
            found = dimension.value((i + share) * width)
            assert type(found) is type(choice)
            assert found == choice
        assert dimension.unit(choice) == pytest.approx((i + 0.5) * width)
    assert dimension.value(1.0) == choices[-1]
    assert dimension.unit("none of them") is None


def test_bounds():
    dimension = Dimension("x", "x", low=0.0, high=2.0)
    assert dimension.unit(2.0 + 1e-9) is None
    assert dimension.unit(True) is None
    with pytest.raises(ValueError, match="outside"):
        dimension.value(1.1)


@pytest.mark.parametrize(
    ("group", "layer"), [("layers.2", 2.0), ("layers.2-5.mlp", 3.5), ("layers", None), ("head", None), (None, None)]
)
def test_layer(group, layer):
    assert Dimension("x", "x", group=group).layer == layer
