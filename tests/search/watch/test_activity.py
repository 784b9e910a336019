"""What the workers do can be seen from outside, and the search gets what its pool gives."""

from evomerge.search.watch import Workbench
from evomerge.search.workers.base import Job
from tests.search.test_loop import ITEMS, SPACE, Ledger, make
from tests.search.watch.demo import SlowPool


class SeenPool(SlowPool):
    """Notes what can be seen while it scores."""

    def score(self, job):
        self.seen = self.bench.now()
        return super().score(job)


def test_a_worker_waits_scores_and_waits_again():
    pool = SeenPool(0.0, lambda number: False)
    bench = pool.bench = Workbench(pool)
    assert bench.now() == []
    bench.start(None, ["one"], print)
    assert [(activity.worker, activity.number) for activity in bench.now()] == [("one", None)]
    job = Job(7, SPACE.recipe([0.5] * len(SPACE)), "search", ITEMS["search"])
    bench.submit("one", job)
    [(done, _)] = bench.poll()
    assert done is job
    [seen] = pool.seen
    assert (seen.worker, seen.number, seen.split, seen.items) == ("one", 7, "search", 40)
    assert bench.now()[0].number is None


def test_a_search_through_the_workbench_is_the_same_search(tmp_path):
    lines = []
    for name, wrap in (("plain", lambda pool: pool), ("watched", Workbench)):
        (tmp_path / name).mkdir()
        pool = wrap(SlowPool(0.0, lambda number: number == 9))
        pool.start(None, ["one"], print)
        ledger = Ledger(tmp_path / name / "ledger.jsonl")
        make(ledger, pool=pool).run()
        ledger.close()
        lines.append((tmp_path / name / "ledger.jsonl").read_text())
    assert lines[0] == lines[1]
