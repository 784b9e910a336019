import pytest

from evomerge.checks import number, whole
from evomerge.errors import UsageError


@pytest.mark.parametrize("value", [0, 3, 10**30])
def test_whole_numbers_pass(value):
    assert whole(value, "x") == value


@pytest.mark.parametrize("value", [-1, 2.0, True, "3", None, float("nan")])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(UsageError, match=r"^a\.b: .* must be a whole number >= 0$"):
        whole(value, "a.b")


def test_numbers_pass_as_floats():
    assert [type(number(value, "x")) for value in (1, -2.5)] == [float, float]
    assert number(1, "x", least=1, most=1) == 1.0


@pytest.mark.parametrize("value", [True, "3", None, float("nan"), float("inf"), 10**400, [1]])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(UsageError, match=r"^a\.b: .* is not a finite number$"):
        number(value, "a.b")


@pytest.mark.parametrize(
    ("limits", "value", "message"),
    [
        ({"least": 0}, -1e-9, "must be a number >= 0"),
        ({"above": 0}, 0, "must be a number > 0"),
        ({"above": 0, "below": 1}, 1.0, "must be a number > 0 and < 1"),
        ({"least": 0, "most": 1}, 1.5, "must be a number >= 0 and <= 1"),
    ],
)
def test_limits_are_named(limits, value, message):
    with pytest.raises(UsageError, match=message):
        number(value, "x", **limits)
