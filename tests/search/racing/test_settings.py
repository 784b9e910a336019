"""Settings are checked, and the error names the key."""

import math

import pytest

from evomerge.errors import UsageError
from evomerge.search.racing import RacingSettings


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("alpha", 0.0),
        ("alpha", 1.0),
        ("alpha", "0.05"),
        ("alpha", math.nan),
        ("first", 0),
        ("first", 2.5),
        ("first", True),
        ("eta", 1.0),
        ("eta", math.inf),
        ("references", 0),
        ("margin", -0.1),
        ("margin", math.nan),
        ("order", "random"),
        ("estimate", 3),
    ],
)
def test_nonsense_is_refused(key, value):
    with pytest.raises(UsageError, match=rf"^racing\.{key}: "):
        RacingSettings(**{key: value})


def test_the_nearest_word_is_named():
    with pytest.raises(UsageError, match="did you mean 'information'"):
        RacingSettings(order="informations")


def test_whole_numbers_are_numbers():
    assert RacingSettings(eta=2, margin=0).eta == 2
