import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.recipes.groups import OUTSIDE, Layout, group_of
from evomerge.recipes.shapes import expand, gradient, lines, swap
from tests.recipes.test_groups import LLAMA

number = st.floats(-2, 2)


def model(layers):
    inside = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(layers)]
    return ["model.embed_tokens.weight", *inside, "model.norm.weight", "lm_head.weight", "model.thing"]


@given(st.integers(2, 80), number, number)
def test_lines_is_the_papers_formula(layers, alpha, beta):
    groups = lines(layers, alpha=alpha, beta=beta)
    for layer in range(layers):
        assert groups[f"layers.{layer}"] == pytest.approx(alpha + beta * layer / (layers - 1), abs=1e-14)
    assert groups["layers.0"] == alpha
    assert groups[f"layers.{layers - 1}"] == alpha + beta
    assert {groups[kind] for kind in OUTSIDE} == {alpha}


def test_lines_by_hand():
    assert lines(5, alpha=0.25, beta=0.5) == {
        **dict.fromkeys(OUTSIDE, 0.25),
        "layers.0": 0.25,
        "layers.1": 0.375,
        "layers.2": 0.5,
        "layers.3": 0.625,
        "layers.4": 0.75,
    }


def by_mergekits_rule(anchors, t):
    """The rule as mergekit's documentation has it: t of the way through the list."""
    position = t * (len(anchors) - 1)
    left = int(position)
    right = min(left + 1, len(anchors) - 1)
    return (1 - (position - left)) * anchors[left] + (position - left) * anchors[right]


@given(st.integers(2, 40), st.lists(number, min_size=2, max_size=7))
def test_a_gradient_runs_through_its_anchors(layers, anchors):
    groups = gradient(layers, anchors=anchors)
    for layer in range(layers):
        value = groups[f"layers.{layer}"]
        assert value == pytest.approx(by_mergekits_rule(anchors, layer / (layers - 1)), abs=1e-9)
        assert min(anchors) <= value <= max(anchors)
    assert groups["embeddings"] == groups["layers.0"] == anchors[0]
    assert groups["norms"] == groups["head"] == groups[f"layers.{layers - 1}"] == anchors[-1]


def test_a_gradient_by_hand():
    groups = gradient(7, anchors=[0.0, 1.0, 0.5])
    inside = [groups[f"layers.{layer}"] for layer in range(7)]
    assert inside == pytest.approx([0, 1 / 3, 2 / 3, 1, 5 / 6, 2 / 3, 1 / 2])


@given(st.data(), st.integers(1, 40))
def test_a_swap_takes_every_layer_from_one_expert_or_both(data, layers):
    transition = data.draw(st.integers(0, (layers - 1) // 2))
    bottom = data.draw(st.integers(0, layers - 2 * transition))
    top = data.draw(st.integers(0, layers - 2 * transition - bottom))
    numbers = {"bottom": bottom, "top": top, "transition": transition}
    language = swap(layers, **numbers, ends=1.0, middle=0.0)
    other = swap(layers, **numbers, ends=0.0, middle=1.0)
    inside = [(language[f"layers.{i}"], other[f"layers.{i}"]) for i in range(layers)]
    assert len(language) == len(other) == layers + len(OUTSIDE)
    assert all(a + b == 1.0 for a, b in inside), "the shares of every layer sum to one"
    middle = layers - bottom - top - 2 * transition
    ends, mixed = (1.0, 0.0), (0.5, 0.5)
    assert (
        inside == [ends] * bottom + [mixed] * transition + [(0.0, 1.0)] * middle + [mixed] * transition + [ends] * top
    )
    assert {language[kind] for kind in OUTSIDE} == {1.0}


@pytest.mark.parametrize(
    "groups",
    [
        lines(5, alpha=0.1, beta=0.2),
        gradient(5, anchors=[0.0, 1.0]),
        swap(5, bottom=1, top=1, ends=1.0, middle=0.0),
    ],
)
def test_a_shape_gives_every_tensor_one_value_and_fits_no_deeper_model(groups):
    layout = Layout.of(model(5))
    for tensor in (*layout.tensors, *LLAMA):
        assert groups[group_of(tensor, groups)] is not None
    with pytest.raises(UsageError, match=r"no group holds tensor 'model\.layers\.5\."):
        group_of(model(6)[6], groups)


def test_as_written_in_a_recipe():
    data = {"shape": "swap", "layers": 8, "bottom": 2, "top": 1, "ends": 1, "middle": 0}
    assert expand(data, "x") == swap(8, bottom=2, top=1, ends=1.0, middle=0.0, transition=1)
    assert expand({**data, "transition": 0}, "x") == swap(8, bottom=2, top=1, ends=1.0, middle=0.0, transition=0)
    assert expand({"shape": "gradient", "layers": 3, "anchors": [0, 1]}, "x")["layers.1"] == 0.5
    assert expand({"shape": "lines", "layers": 3, "alpha": 1, "beta": 1}, "x")["layers.2"] == 2.0


LINES = {"shape": "lines", "layers": 4, "alpha": 0.1, "beta": 0.2}
SWAP = {"shape": "swap", "layers": 4, "bottom": 1, "top": 1, "ends": 1.0, "middle": 0.0}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"shape": "lins", "layers": 4}, "unknown shape 'lins'; did you mean 'lines'"),
        ({"shape": ["lines"], "layers": 4}, "unknown shape"),
        ({**LINES, "alfa": 1}, "w: shape lines: unknown key 'alfa'; did you mean 'alpha'"),
        ({"shape": "lines", "layers": 4, "alpha": 1}, "needs layers, alpha, beta; beta is missing"),
        ({**LINES, "layers": 1}, "layers: 1 must be a whole number >= 2"),
        ({**LINES, "layers": 4.5}, "layers: 4.5 must be a whole number"),
        ({**LINES, "alpha": "x"}, "alpha: 'x' is not a finite number"),
        ({**LINES, "beta": float("nan")}, "beta: nan is not a finite number"),
        ({**LINES, "beta": 10**400}, "is not a finite number"),
        ({**LINES, "beta": True}, "beta: True is not a finite number"),
        ({"shape": "gradient", "layers": 4, "anchors": [0.5]}, "two numbers or more"),
        ({"shape": "gradient", "layers": 4, "anchors": "abc"}, "two numbers or more"),
        ({"shape": "gradient", "layers": 4, "anchors": [0.5, None]}, "anchors: None is not a finite number"),
        ({**SWAP, "bottom": -1}, "bottom: -1 must be a whole number >= 0"),
        ({**SWAP, "top": 2}, "bottom 1, top 2 and two transitions of 1 are more than 4 layers"),
    ],
)
def test_bad_shapes_get_one_clear_line(data, message):
    with pytest.raises(UsageError, match=re.escape(message)) as info:
        expand(data, "w")
    assert "\n" not in str(info.value)
