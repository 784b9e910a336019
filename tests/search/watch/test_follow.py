"""Snapshots of a search that really runs, on a clock of our own."""

import itertools

import pytest

from evomerge.search.ledger import Ledger
from evomerge.search.results import by_estimate, estimates, front, mean_normalised, selected
from evomerge.search.watch import Follower
from evomerge.search.watch.standing import standing
from tests.search.test_loop import StoppedError, configuration, make
from tests.search.watch.demo import SlowPool, outline


class Clock:
    """Goes on only where a model is scored."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class TimedPool(SlowPool):
    """Takes 2 seconds for a model on the search split, by the clock, and 1 for a failure."""

    def __init__(self, clock, fail=lambda number: False):
        super().__init__(0.0, fail)
        self.clock = clock

    def score(self, job):
        self.clock.now += 1.0 if self.fail(job.number) else 0.05 * sum(map(len, job.items.values()))
        return super().score(job)


def follow(path, *, stop=None, fail=(), config=None, **changes):
    """Run a search; return the follower, its snapshots after each event with the seconds that were left, the record."""
    clock = Clock()
    follower = Follower(outline(config, **changes), clock=clock)
    snapshots = []
    path.mkdir(exist_ok=True)
    ledger = Ledger(path / "ledger.jsonl")

    def watch(record):
        snapshots.append((clock.now, follower(record)))
        if stop is not None and len(record.trials) == stop:
            raise StoppedError

    search = make(ledger, config=config, pool=TimedPool(clock, lambda n: n in fail), watch=watch)
    try:
        search.run()
        search.report()
    except StoppedError:
        pass
    finally:
        ledger.close()
    return follower, snapshots, search.record, clock.now


def test_phases_come_in_order(tmp_path):
    _, snapshots, _, _ = follow(tmp_path)
    phases = list(dict.fromkeys(snapshot.phase for _, snapshot in snapshots))
    assert phases == ["baselines", "search", "selection", "report"]


def test_done_and_planned(tmp_path):
    follower, snapshots, record, _ = follow(tmp_path, fail={9})
    planned = follower.outline.baselines + 14
    assert {snapshot.planned for _, snapshot in snapshots} == {planned}
    assert snapshots[0][1].done == 0
    assert snapshots[-1][1].done == planned == len(record.trials)
    assert snapshots[-1][1].failures == {"candidate": 1}


def test_the_time_left_is_right_when_costs_are_equal(tmp_path):
    _, snapshots, _, end = follow(tmp_path)
    searching = [(now, s.left) for now, s in snapshots if s.phase == "search" and s.left is not None]
    assert len(searching) > 10
    # Which finalists the kinds share is known only when they are there: right to a few models of 2 seconds.
    assert max(abs(left.expected - (end - now)) for now, left in searching) <= 8.0
    late = [(now, s.left) for now, s in snapshots if s.phase == "report" and s.left is not None]
    assert all(left.expected == pytest.approx(end - now, abs=1e-6) for now, left in late)


def test_a_resumed_search_knows_its_pace_at_once(tmp_path):
    follow(tmp_path, stop=12)
    _, snapshots, _, _ = follow(tmp_path)
    first = snapshots[0][1]
    assert first.done >= 11
    assert first.left is not None  # from the seconds in the ledger


def test_a_finished_search_that_goes_on_with_a_larger_budget_searches_again(tmp_path):
    follow(tmp_path)
    larger = configuration(budget={"candidates": 24, "items": None, "seconds": None})
    _, snapshots, _, _ = follow(tmp_path, config=larger)
    assert list(dict.fromkeys(snapshot.phase for _, snapshot in snapshots))[:2] == ["search", "selection"]
    searching = [snapshot for _, snapshot in snapshots if snapshot.phase == "search"]
    assert {snapshot.planned for snapshot in searching} == {snapshots[0][1].done + 10}
    assert all(snapshot.left.expected > 0 for snapshot in searching[:-1])


def test_what_is_done_and_what_is_ahead_make_the_whole(tmp_path):
    _, snapshots, _, _ = follow(tmp_path)
    total = snapshots[-1][1].scored
    assert snapshots[-1][1].ahead == 0
    assert max(abs(s.scored + s.ahead - total) for _, s in snapshots if s.phase == "search") <= 0.1 * total


def test_the_same_record_again_changes_nothing(tmp_path):
    follower, snapshots, record, _ = follow(tmp_path)
    assert follower(record) is snapshots[-1][1]


@pytest.mark.parametrize(
    "budget",
    [{"items": 320}, {"seconds": 4.0}],
)
def test_other_budgets(tmp_path, budget):
    config = configuration(budget={"candidates": None, "items": None, "seconds": None, **budget})
    _, snapshots, record, _ = follow(tmp_path, config=config)
    searching = [snapshot for _, snapshot in snapshots if snapshot.phase == "search"]
    assert all(abs(snapshot.planned - len(record.trials)) <= 1 for snapshot in searching)


def test_the_standing_is_what_the_front_command_says(tmp_path):
    _, snapshots, record, _ = follow(tmp_path)
    for _, snapshot in snapshots:
        if snapshot.standing is not None and snapshot.standing.best is not None:
            assert snapshot.standing.split == "search"
            assert snapshot.standing.best.kind == "candidate"
    best = by_estimate(record, record.candidates, estimates(record))[0]
    assert standing(record).best.number == best.number
    assert standing(record).best.joined == estimates(record)[best.number].joined[0]


def test_the_end_shows_the_split_on_which_the_best_was_chosen(tmp_path):
    follower, _, record, _ = follow(tmp_path)
    end = follower.end(record).standing
    assert end.split == "selection"
    assert end.best.number == selected(record)[0].number
    assert end.best.joined == mean_normalised(record, selected(record)[0], "selection")
    assert end.front == len(front(record))
    assert {row.kind for row in end.baselines} == {"base", "expert", "uniform"}


def test_ranking_takes_a_small_share_of_the_time(tmp_path):
    """With a clock on which each ranking takes a second, fewer than one in forty seconds go into it."""
    clock = Clock()
    follower = Follower(outline(), clock=clock)
    ranked = []

    def rank(record, split):
        clock.now += 1.0
        ranked.append(clock.now)

    follower._rank = rank
    ledger = Ledger(tmp_path / "ledger.jsonl")
    make(ledger, pool=TimedPool(clock), watch=follower).run()
    ledger.close()
    assert len(ranked) >= 2
    assert all(later - earlier >= 40 for earlier, later in itertools.pairwise(ranked))
