"""Which products a surrogate has."""

import numpy as np
import pytest

from evomerge.optimizers.map.forms import build, build_all, code
from evomerge.recipes import Dimension
from tests.optimizers.map.landscapes import weights

MIXED = [
    Dimension("method", "method", choices=("a", "b", "c")),
    *weights(2),
    Dimension("drop_rate.e0", "drop_rate", "e0", None, 0.0, 0.9),
]


@pytest.mark.parametrize(("name", "size"), [("full", 10), ("diagonal", 7)])
def test_sizes_at_three_experts(name, size):
    assert build(name, weights(3)).size == size


def test_sizes_at_three_experts_and_six_groups():
    space = weights(3, 6)
    sizes = {form.name: form.size for form in build_all(space)}
    assert sizes == {"full": 190, "group": 1 + 36 + 6 * 3, "low_rank": 1 + 18 + 21, "diagonal": 37}


def test_a_form_that_is_another_one_is_listed_once():
    assert [form.name for form in build_all(weights(3))] == ["full", "diagonal"]
    assert [form.name for form in build_all(weights(1))] == ["full"]


def test_pairs_inside_a_group_only():
    pairs = build("group", weights(2, 2)).pairs.tolist()
    assert [pair for pair in pairs if pair[0] != pair[1]] == [[0, 2], [1, 3]]


def test_other_numbers_have_no_products_unless_asked_for():
    own = build("full", MIXED)
    assert own.size == 1 + 6 + 3 + 1
    assert build("full", MIXED, "all").size == 1 + 6 + 3 + 3


def test_codes():
    coded = code(MIXED, np.array([[0.5, 0.0, 1.0, 0.25], [1.0, 0.5, 0.5, 0.5]]))
    assert coded.tolist() == [[0, 1, 0, -1, 1, -0.5], [0, 0, 1, 0, 0, 0]]


def test_terms_are_the_listed_products():
    form = build("full", weights(2))
    assert form.terms(np.array([[2.0, 3.0]])).tolist() == [[2, 3, 4, 9, 6]]
    assert form.squared().tolist() == [False, False, True, True, True]


def test_directions_are_means_and_slopes():
    form = build("low_rank", weights(1, 3))
    assert form.directions == pytest.approx(np.array([[1 / 3, 1 / 3, 1 / 3], [-0.5, 0, 0.5]]))
