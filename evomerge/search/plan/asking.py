"""What an optimizer itself costs: it is told made-up results and asked for points, at several sizes of the record.

A search asks once a candidate, and what an answer costs grows with what was told before. So it is measured in the
middle, at the beginning and at the end, and summed up along straight lines in between. The results follow a smooth
function with noise: no model is involved. This file knows nothing about models.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evomerge.optimizers import create
from evomerge.optimizers.base import Objective, Optimizer, Problem, Proposal, Result
from evomerge.recipes import Dimension
from evomerge.search.plan.cost import NOTHING, Cost, Stopwatch

#: Questions at each size of the record: models are not fitted anew for every one.
_QUESTIONS = 3
_NOISE = 0.03


def asking(
    name: str,
    options: Mapping[str, Any],
    dimensions: Sequence[Dimension],
    tasks: Mapping[str, int],
    *,
    scalarization: str,
    known: int,
    candidates: int,
    seed: int,
    seconds: float,
) -> Cost:
    """Return what all questions of a search cost.

    Args:
        name, options, scalarization: of the optimizer, as in the configuration.
        dimensions: of the space.
        tasks: objective -> items that each result stands for.
        known: how many results it is told before the first question.
        candidates: how many questions.
        seed: of optimizer and results.
        seconds: about how long the measurement may take; where it is over after the first size, the middle one, that
            stands for all.
    """
    watch = Stopwatch()
    sizes = dict.fromkeys((candidates // 2, 0, max(0, candidates - _QUESTIONS)))
    found: list[tuple[int, Cost]] = []
    for size in sizes:
        if found and watch.read().seconds > seconds:
            break
        objectives = [Objective(task, 0.3, 0.7) for task in tasks]
        problem = Problem(dimensions, objectives, seed, known + size)
        optimizer = create(name, problem, scalarization=scalarization, **options)
        rng = np.random.default_rng([seed, size])
        for number in range(known + size):
            vector = tuple(rng.random(len(dimensions)).tolist())
            optimizer.tell(Proposal(number, vector), _result(optimizer, vector, tasks, rng))
        found.append((size, _question(optimizer, tasks, rng, min(_QUESTIONS, candidates))))
    return _along(sorted(found, key=lambda one: one[0]), candidates)


def _question(optimizer: Optimizer, tasks: Mapping[str, int], rng: np.random.Generator, times: int) -> Cost:
    """Return what asking and telling cost, on the average."""
    watch = Stopwatch()
    for _ in range(times):
        for proposal in optimizer.ask(1):
            optimizer.tell(proposal, _result(optimizer, proposal.vector, tasks, rng))
    return watch.read() * (1 / max(times, 1))


def _along(found: Sequence[tuple[int, Cost]], candidates: int) -> Cost:
    """Sum up costs at sizes of the record, along straight lines, the last one going on."""
    total = NOTHING
    places = np.arange(candidates)
    sizes = [size for size, _ in found]
    for size, cost in found:
        weights = np.interp(places, sizes, [float(other == size) for other in sizes])
        total += cost * float(weights.sum())
    return total


def _result(
    optimizer: Optimizer, vector: Sequence[float], tasks: Mapping[str, int], rng: np.random.Generator
) -> Result:
    """Return a made-up result: better near a point of the cube that each task has for itself."""
    x = np.array(vector)
    values = []
    for place in range(len(tasks)):
        best = 0.5 + 0.3 * np.cos(place + np.arange(len(x)))
        values.append(float(np.clip(0.8 - np.mean((x - best) ** 2) * 3 + rng.normal(0, _NOISE), 0.01, 0.99)))
    counts = tuple(tasks.values())
    by_item: tuple[Mapping[int, float], ...] = ()
    if optimizer.wants_items:
        by_item = tuple(
            {item: float(rng.random() < value) for item in range(count)}
            for value, count in zip(values, counts, strict=True)
        )
    return Result(tuple(values), (_NOISE,) * len(values), counts, by_item=by_item)
