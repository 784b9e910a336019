import pytest

from evomerge.errors import UsageError
from evomerge.mergekit.settings import evaluate, first_set


def along(gradient, layers):
    return [evaluate(gradient, "number", "x", i / (layers - 1), "t") for i in range(layers)]


def test_gradients_have_the_values_that_mergekit_gives_them():
    assert along([0, 1], 5) == [0, 0.25, 0.5, 0.75, 1]
    assert along([0, 0.5, 0.3, 0.7, 1], 5) == [0, 0.5, 0.3, 0.7, 1]
    assert along([1, 0, 1], 5) == [1, 0.5, 0, 0.5, 1]
    assert along([0.4], 3) == [0.4, 0.4, 0.4]
    assert along([0.0, 1.0], 4) == [0.0, 1 / 3, 2 / 3, 1.0]


def test_a_gradient_of_flags_has_no_values_between():
    assert [evaluate([True, False], "flag", "x", t, "normalize") for t in (0, 0.5, 0.99, 1)] == [
        True,
        True,
        True,
        False,
    ]


def test_filters_match_parts_of_names_and_the_first_wins():
    setting = [{"filter": "self_attn", "value": [0, 1]}, {"filter": "attn", "value": 7}, {"value": 0.5}]
    assert evaluate(setting, "number", "layers.0.self_attn.q", 0.25, "t") == 0.25
    assert evaluate(setting, "number", "layers.0.attn.q", 0.25, "t") == 7
    assert evaluate(setting, "number", "layers.0.mlp", 0.25, "t") == 0.5
    assert evaluate([{"filter": "*", "value": 3}], "number", "x", 0, "t") == 3
    assert evaluate({"filter": "mlp", "value": 3}, "number", "x.mlp", 0, "t") == 3


def test_a_list_that_does_not_fit_falls_through_to_the_next_scope():
    scopes = ({"weight": [{"filter": "mlp", "value": 1}]}, {}, {"weight": 0.3})
    assert first_set(scopes, "weight", "number", "x.mlp", 0) == 1
    assert first_set(scopes, "weight", "number", "x.attn", 0) == 0.3
    assert first_set(scopes[:2], "weight", "number", "x.attn", 0) is None


def test_numbers_as_texts_count_as_yaml_reads_1e_5_as_a_text():
    assert evaluate("1e-5", "number", "x", 0, "tol") == 1e-5
    assert evaluate("yes", "flag", "x", 0, "normalize") is True
    assert evaluate(0.0, "flag", "x", 0, "normalize") is False


@pytest.mark.parametrize(
    ("setting", "kind", "message"),
    [
        ("much", "number", "weight: 'much' is not a number"),
        (float("nan"), "number", "not a finite number"),
        (None, "number", "not a number"),
        ([[1]], "number", "not a number"),
        ([1, {"value": 2}], "number", "all values or all mappings"),
        ([{"filter": "a"}], "number", "all values or all mappings"),
        ([{"filtr": "a", "value": 1}], "number", "unknown key 'filtr'; did you mean 'filter'"),
        ([{"filter": 3, "value": 1}], "number", "filter 3 is not a text"),
        (2.5, "whole", "not a whole number"),
        ("maybe", "flag", "neither true nor false"),
        (2, "flag", "neither true nor false"),
    ],
)
def test_what_is_no_setting_is_refused(setting, kind, message):
    with pytest.raises(UsageError, match=message):
        evaluate(setting, kind, "a", 0, "weight")
