"""One measured candidate: a model is loaded, merged and scored as a search does it, on some items only.

Nothing is kept but in a temporary folder, and only items of the search split are looked at. What a first time costs
(compiling, statistics of the models that methods keep) is told apart from what every candidate costs. Scoring is
measured on a few items and on more, so that what a batch costs and what an item costs can be told apart, and then once
more with other candidates. This file knows nothing about budgets.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError, WorkError
from evomerge.evaluation import EvalTask, Evaluator, OutcomeStore
from evomerge.recipes import Recipe, SearchSpace
from evomerge.search.baselines import Baseline
from evomerge.search.config import SearchConfig
from evomerge.search.plan.cost import NOTHING, Cost, Stopwatch
from evomerge.search.plan.measured import Measured, Memory, Point, mean
from evomerge.search.plan.usage import device_memory, peak_memory, resident_memory, restart_peak
from evomerge.search.scorer import Engine, load_scorer, start_sandbox

#: Items of a task in the first, small measurement, and in the second one, which is made whatever the time.
FEW, MORE = 4, 16
#: How many other candidates are scored after the first, at most.
OTHERS = 3
# Candidates of the measurement are random points of the space: tells their generator from others.
_RANDOM = 0x91A4


def measure(
    config: SearchConfig,
    pool: ModelPool,
    tasks: Mapping[str, EvalTask],
    space: SearchSpace,
    starting: Sequence[Baseline],
    items: Mapping[str, tuple[str, ...]],
    *,
    device: str,
    seconds: float,
) -> Measured:
    """Measure one candidate.

    Args:
        config: the configuration.
        pool, tasks, space: opened and loaded.
        starting: the search's baselines.
        items: task -> items of the search split; no more than these are scored at a time.
        device: where to score.
        seconds: about how long scoring may take; the two first small measurements are made in any case.

    Raises what a search raises.
    """
    watch = Stopwatch()
    start_sandbox(tasks.values(), config.evaluation)
    with TemporaryDirectory() as folder:
        store = OutcomeStore(Path(folder))
        said: list[str] = []
        try:
            engine, evaluator = load_scorer(
                *(pool, tasks, config.evaluation, device, store), memory=config.workers.memory, say=said.append
            )
            start = watch.read()
            bench = _Bench(engine, evaluator, items)
            warming, merges, steady, building = _build(bench, space, starting)
            scoring, others, peak = _score(bench, space, starting, seconds)
            used = device_memory(device)
        finally:
            store.close()
        written = sum(file.stat().st_size for file in Path(folder).iterdir()) / max(1, bench.scored)
    memory = Memory(steady, building, peak, used)
    return Measured(start, warming, merges, scoring, others, memory, written, "; ".join(said))


class _Bench:
    """Builds and scores, with a stopwatch."""

    def __init__(self, engine: Engine, evaluator: Evaluator, items: Mapping[str, tuple[str, ...]]) -> None:
        self.engine, self.evaluator, self.items = engine, evaluator, items
        self.scored = self._runs = 0

    def build(self, recipe: Recipe) -> Cost:
        watch = Stopwatch()
        self.engine.apply(recipe)
        return watch.read()

    def build_one(self, candidates: Iterator[Recipe]) -> Cost:
        """Build the next candidate that can be built."""
        for recipe in candidates:
            try:
                return self.build(recipe)
            except CandidateError:
                continue
        raise WorkError("no candidate of the space could be built; try the bounds of the method's parameters")

    def score(self, task: str, count: int) -> Point:
        """Score what is built, as if never seen before, on the first items of a task."""
        self._runs += 1
        ids = self.items[task][:count]
        watch = Stopwatch()
        outcomes = self.evaluator.score(task, ids, f"plan {self._runs}")
        cost = watch.read()
        self.scored += len(ids)
        return Point(len(ids), sum(outcome.tokens for outcome in outcomes), cost)


def _candidates(space: SearchSpace, seed: int) -> Iterator[Recipe]:
    """Some random points of the space."""
    rng = np.random.default_rng([_RANDOM, seed])
    return (space.recipe(rng.random(len(space)).tolist()) for _ in range(10))


def _build(bench: _Bench, space: SearchSpace, starting: Sequence[Baseline]) -> tuple[Cost, tuple[Cost, ...], int, int]:
    """Build what has a first time, then candidates; returns warming, merges, steady memory and its peak."""
    restart_peak()
    first = bench.build(starting[0].recipe)
    for task in bench.items:
        first += bench.score(task, FEW).cost
    again = NOTHING  # the same once more, without the first time's work
    for task in bench.items:
        again += bench.score(task, FEW).cost
    firsts = [bench.build(one.recipe) for one in starting if one.kind == "untuned"]
    candidates = _candidates(space, 0)
    firsts.append(bench.build_one(candidates))
    merges = tuple(bench.build_one(candidates) for _ in range(2))
    usual = mean(merges)
    extra = [first, *firsts]
    warming = Cost(
        max(0.0, sum(cost.seconds - usual.seconds for cost in extra) - again.seconds),
        max(0.0, sum(cost.cpu - usual.cpu for cost in extra) - again.cpu),
    )
    gc.collect()
    return warming, merges, resident_memory(), peak_memory()


def _score(
    bench: _Bench, space: SearchSpace, starting: Sequence[Baseline], seconds: float
) -> tuple[dict[str, tuple[Point, ...]], tuple[Cost, ...], int]:
    """Score the uniform average on more and more items while time allows, then others; returns the peak too."""
    watch = Stopwatch()
    restart_peak()
    bench.build(next(one.recipe for one in starting if one.name == "average"))
    scoring: dict[str, tuple[Point, ...]] = {}
    share = seconds / len(bench.items) / 2
    for task, ids in bench.items.items():
        points = [bench.score(task, FEW)]
        spent = points[0].cost.seconds
        while points[-1].items < len(ids):
            average = points[-1].cost.seconds / points[-1].items
            affordable = int((share - spent) / max(average, 1e-9))
            count = min(len(ids), 4 * points[-1].items, max(affordable, MORE))
            if count < 1.5 * points[-1].items:
                break
            points.append(bench.score(task, count))
            spent += points[-1].cost.seconds
        scoring[task] = tuple(points)
    once = _sum(points[-1].cost for points in scoring.values())
    others: list[Cost] = []
    candidates = _candidates(space, 1)
    while len(others) < OTHERS and watch.read().seconds + once.seconds <= seconds:
        bench.build_one(candidates)
        again = _sum(bench.score(task, points[-1].items).cost for task, points in scoring.items())
        others.append(Cost(again.seconds / once.seconds, again.cpu / max(once.cpu, 1e-9)))
    return scoring, tuple(others), peak_memory()


def _sum(costs: Iterator[Cost]) -> Cost:
    total = NOTHING
    for cost in costs:
        total += cost
    return total
