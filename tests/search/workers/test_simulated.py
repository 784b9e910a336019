"""The simulated fleet keeps the time that real workers would."""

import pytest

from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Job, Scored
from evomerge.search.workers.simulated import SimulatedPool, Weather, no_time
from tests.search.test_loop import SPACE

RECIPE = SPACE.recipe((0.5,) * len(SPACE))
STEADY = Weather(seconds=60.0, spread=0.0, differ=0.0)


def job(number, items=4):
    return Job(number, RECIPE, "search", {"t": tuple(f"i{k}" for k in range(items))})


def fleet(workers, weather=STEADY, *, answer=lambda job: Scored("", {}, 1.0), clock=no_time):
    pool = SimulatedPool(answer, weather=weather, clock=clock, items=4)
    pool.start(None, [f"w{i}" for i in range(workers)], print)
    return pool


def drive(pool, jobs):
    """Give all jobs as workers come free; return the results."""
    todo, found = list(range(jobs)), []
    while len(found) < jobs:
        for worker in pool.idle():
            if todo:
                pool.submit(worker, job(todo.pop(0)))
        found += pool.poll()
    return found


def test_jobs_take_their_time_and_fewer_items_less():
    pool = fleet(1)
    for items, then in ((4, 60.0), (1, 75.0)):
        pool.submit(pool.idle()[0], job(0, items))
        assert pool.poll()[0][0].number == 0
        assert pool.now == pytest.approx(then)


def test_idle_workers_are_counted_and_a_busy_driver_leaves_them_idle():
    driver = [0.0]
    pool = fleet(2, clock=lambda: driver[0])
    pool.begin()
    driver[0] += 3.0  # the driver thinks
    pool.submit("w0", job(0))
    driver[0] += 2.0
    pool.submit("w1", job(1))
    assert pool.counts.idle == pytest.approx(3.0 + 5.0)
    assert pool.poll()[0][0].number == 0
    assert (pool.now, pool.driver) == (pytest.approx(63.0), pytest.approx(5.0))
    driver[0] += 10.0  # meanwhile the other one is done
    assert [found[0].number for found in pool.poll()] == [1]
    assert pool.now == pytest.approx(73.0)


def test_workers_are_taken_away_and_every_job_ends_once():
    pool = fleet(20, Weather(seconds=60.0, preempted=90.0, away=30.0))
    found = drive(pool, 300)
    assert sorted(one.number for one, _ in found) == list(range(300))
    failures = [outcome for _, outcome in found if isinstance(outcome, Failure)]
    assert 0 < len(failures) == pool.counts.failed < 150
    assert {failure.kind for failure in failures} == {"worker"}
    assert pool.counts.lost > 50
    assert pool.counts.down > 0


def test_the_same_seed_gives_the_same_day():
    days = []
    for _ in range(2):
        pool = fleet(7, Weather(preempted=300.0))
        days.append(([one.number for one, _ in drive(pool, 50)], pool.now))
    assert days[0] == days[1]


def test_what_workers_find_takes_none_of_the_drivers_time():
    driver = [0.0]

    def answer(job):
        driver[0] += 5.0
        return Scored("", {}, 1.0)

    pool = fleet(3, answer=answer, clock=lambda: driver[0])
    drive(pool, 9)
    assert pool.driver == 0.0
