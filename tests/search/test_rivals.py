"""A candidate's race is the same whether its rivals were followed from the beginning or are gathered at once."""

import pytest

from evomerge.search import rivals
from evomerge.search.racing import RacingSettings
from evomerge.search.rivals import Rivals
from tests.search.records import answers, record


def blocks(race, scores=(1.0, 0.0)):
    """Run a race to its end; return all that was drawn and who stopped it."""
    drawn = []
    while (block := race.block()) is not None:
        drawn.append(block)
        race.take([[scores[place % 2] for place in places] for places in block])
    return drawn, race.beaten_by, race.results()


@pytest.mark.parametrize("rule", ["front", "weighted_sum"])
@pytest.mark.parametrize("most", [256, 5])
def test_followed_or_gathered(rule, most, monkeypatch):
    monkeypatch.setattr(rivals, "KNOWN", most)
    found = record(
        *[
            {"search": {"t": answers(n * 7 % 32, wrong=32 - n * 7 % 32), "u": answers(n, wrong=32 - n)}}
            for n in range(30)
        ]
    )
    settings = RacingSettings(first=8)
    followed = Rivals(found, settings, rule, 1)
    stopped = 0
    for number in range(8, 30, 5):
        one, other = blocks(followed.race(number)), blocks(Rivals(found, settings, rule, 1).race(number))
        assert one == other
        stopped += one[1] is not None
        assert one[1] is None or one[1] < number
    assert stopped > 0
