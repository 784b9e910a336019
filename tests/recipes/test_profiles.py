import pytest

from evomerge.recipes import Dimension, Layout
from evomerge.recipes.groups import value_at
from evomerge.recipes.profiles import ByGroup, ByShape, Fixed, members
from evomerge.recipes.shapes import gradient, lines
from tests.recipes.test_groups import LLAMA

LAYOUT = Layout.of(LLAMA)
ALPHA = Dimension("alpha", "weight", low=0.0, high=1.0)
BETA = Dimension("beta", "weight", low=-1.0, high=1.0)


def at(groups):
    return lambda tensor: value_at(groups, tensor)


def on_a_line(*numbers):
    return ByShape(numbers, lambda values: lines(5, alpha=values[0], beta=values[1]), LAYOUT)


def test_members_of_all_are_what_the_others_leave():
    held = members(LAYOUT, ["layers.0-3", "all", "head"])
    assert sorted(name for names in held.values() for name in names) == list(LAYOUT.tensors)
    assert held["head"] == ["lm_head.weight"]
    assert all(".4." in name or "embed" in name or name == "model.norm.weight" for name in held["all"])


def test_a_fixed_value_has_no_dimension_and_is_found_or_not():
    fixed = Fixed({"layers": 0.5, "all": 1.0}, LAYOUT)
    assert fixed.dimensions == ()
    assert fixed.groups([]) == {"layers": 0.5, "all": 1.0}
    assert fixed.units(at({"all": 0.5, "head": 1.0, "norms": 1.0, "embeddings": 1.0})) == []
    assert fixed.units(at({"all": 0.5})) is None


def test_values_by_group_are_found_in_other_groups():
    split = ByGroup(
        tuple(Dimension(g, "weight", group=g, high=2.0) for g in ("layers.0-2", "layers.3-4", "all")), LAYOUT
    )
    assert split.groups([0.1, 0.2, 0.3]) == {"layers.0-2": 0.1, "layers.3-4": 0.2, "all": 0.3}
    assert split.units(at({"all": 1.0, "layers.3": 0.5, "layers.4": 0.5})) == [0.5, 0.25, 0.5]
    assert split.units(at({"all": 1.0, "layers.3": 0.5})) is None, "two values in one group"
    assert split.units(at({"all": 2.5})) is None, "out of bounds"


def test_numbers_of_a_shape_may_be_fixed():
    assert on_a_line(ALPHA, BETA).units(at(lines(5, alpha=0.25, beta=0.5))) == pytest.approx([0.25, 0.75])
    assert on_a_line(0.25, BETA).units(at(lines(5, alpha=0.25, beta=0.5))) == pytest.approx([0.75])
    assert on_a_line(0.3, BETA).units(at(lines(5, alpha=0.25, beta=0.5))) is None
    assert on_a_line(0.25, 0.5).units(at(lines(5, alpha=0.25, beta=0.5))) == []
    assert on_a_line(0.25, 0.4).units(at(lines(5, alpha=0.25, beta=0.5))) is None
    assert on_a_line(0.25, BETA).groups([0.5]) == lines(5, alpha=0.25, beta=0.5)


def test_a_point_at_the_bounds_stays_in_the_cube_though_rounding_leaves_it():
    dimensions = tuple(Dimension(str(i), "weight", low=0.1, high=0.7) for i in range(4))
    shape = ByShape(dimensions, lambda values: gradient(5, anchors=values), LAYOUT)
    for values in ([0.1] * 4, [0.7] * 4, [0.1, 0.7, 0.1, 0.7]):
        units = shape.units(at(shape.groups(values)))
        assert units is not None
        assert all(0.0 <= u <= 1.0 for u in units)
        assert units == pytest.approx([(v - 0.1) / 0.6 for v in values], abs=1e-9)
    assert shape.units(at({"all": 0.1 - 1e-6})) is None


def test_texts_lie_on_no_shape():
    assert on_a_line(ALPHA, BETA).units(at({"all": "x"})) is None
