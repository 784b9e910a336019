import pytest

from evomerge.errors import WorkError
from evomerge.evaluation.types import Outcome
from evomerge.optimizers import Objective
from evomerge.search.racing import Race, RacingSettings
from evomerge.search.record import TaskScore
from evomerge.search.track import Track

ITEMS = {"a": tuple(f"a:{i}" for i in range(30)), "b": tuple(f"b:{i}" for i in range(12))}


def rows(block, right=lambda item: False):
    return {
        task: [Outcome(task, item, float(right(item)), 1, False, "x", "") for item in ids]
        for task, ids in block.items()
    }


def race(seed=0):
    known = {7: [[1.0] * 30, [1.0] * 12], 3: [[0.0] * 30, [0.0] * 12]}
    goals = [Objective("a", 0.0, 1.0), Objective("b", 0.0, 1.0)]
    return Race(RacingSettings(first=3, eta=2.0), goals, rule="weighted_sum", known=known, references=[7], seed=seed)


def test_without_a_race_all_is_scored_at_once():
    track = Track(ITEMS)
    assert track.block == ITEMS
    found = rows(ITEMS, lambda item: item.endswith("3"))
    track.take("f", found, 1.5)
    assert track.block is None
    assert (track.fingerprint, track.seconds, track.beaten_by) == ("f", 1.5, None)
    assert track.scores() == {task: TaskScore.of(outcomes) for task, outcomes in found.items()}


def test_a_race_that_is_lost_ends_early_and_leaves_an_estimate():
    track, seen = Track(ITEMS, race()), {"a": [], "b": []}
    while (block := track.block) is not None:
        for task, ids in block.items():
            seen[task] += ids
        track.take("f", rows(block), 1.0)
    assert track.beaten_by == 7
    for task, score in track.scores().items():
        assert 0 < score.items < len(ITEMS[task])
        assert [ITEMS[task][place] for place in score.places] == sorted(seen[task], key=ITEMS[task].index)
        assert score.mean == pytest.approx(0.0, abs=0.5)


def test_a_race_that_is_run_to_the_end_equals_no_race():
    track, plain = Track(ITEMS, race()), Track(ITEMS)
    blocks = 0

    def right(item):
        return True

    while (block := track.block) is not None:
        blocks += 1
        assert all(not set(ids) - set(ITEMS[task]) for task, ids in block.items())
        track.take("f", rows(block, right), 1.0)
    plain.take("f", rows(ITEMS, right), 1.0)
    assert blocks > 2
    assert track.beaten_by is None
    assert track.scores() == plain.scores()


def test_other_weights_in_the_middle_are_noticed():
    track = Track(ITEMS, race())
    track.take("f", rows(track.block, lambda item: True), 1.0)
    assert track.block is not None
    with pytest.raises(WorkError, match="built f and then g"):
        track.take("g", rows(track.block), 1.0)
