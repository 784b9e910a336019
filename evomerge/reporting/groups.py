"""Groups of runs that differ in the seed alone, such as one optimizer with five seeds: how good, and is one better?

Pure functions of numbers. A run is task -> per-item scores of the model that it found; all runs have the same items in
the same order. Two things are by chance: the seeds, which would give other models, and the items, which would give
other scores. Runs of one group are independent draws; items are common to all runs, of all groups. With m[s, i] the
scores of one task, the variance of the grand mean is estimated by

    var over s of (mean over i) / S  +  var over i of (mean over s) / I

as if the two had nothing in common. That is never too small on average: it counts what is left when seed and item are
accounted for twice, of which the exact estimate for two-way data (Cameron, Gelbach and Miller 2011, eq. 2.7) takes one
off again, at the price of negative variances in small samples. Items are paired between two groups, seeds are not.
The half widths of Student's intervals of all parts are added in squares (Zou and Donner 2008, eq. 3): Satterthwaite's
degrees of freedom would cover too little where two seeds count most. A group of one run says nothing about other seeds:
then only items count. Where all scores are equal an interval has no width. This file knows nothing about runs beyond
their scores.
"""

import math
import sys
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats

from evomerge.reporting.statistics import LEVEL, Anchors, Difference, Interval, Weights, task_factors

Runs = Sequence[Mapping[str, ArrayLike]]
#: One group's part of normalised scores: task -> (runs, items).
Table = Mapping[str, NDArray[np.float64]]


def group_mean(runs: Runs, anchors: Anchors, *, weights: Weights | None = None, level: float = LEVEL) -> Interval:
    """Return the mean over runs of mean normalised scores, with an interval for other seeds and other items.

    Args:
        runs: for each run task -> per-item scores.
        anchors: task -> (low, high), see `statistics`.
        weights: task -> weight.
        level: confidence level.

    Raises `ValueError` if there is no run, or runs have other tasks or numbers of items.
    """
    table = _table(runs, anchors, weights)
    return _interval(table, [table], level)


def group_difference(
    first: Runs, second: Runs, anchors: Anchors, *, weights: Weights | None = None, level: float = LEVEL
) -> Difference:
    """Return the first group's mean minus the second's, with an interval and the p-value of "there is no difference".

    The p-value is 1 minus the level at which the interval ends at 0. 1 if nothing differs.
    """
    a, b = _table(first, anchors, weights), _table(second, anchors, weights)
    if {task: rows.shape[1] for task, rows in a.items()} != {task: rows.shape[1] for task, rows in b.items()}:
        raise ValueError("the groups have other tasks or numbers of items")
    between = {task: a[task].mean(axis=0)[None] - b[task].mean(axis=0)[None] for task in a}
    found = _interval(between, [a, b], level)
    sources = _sources(between, [a, b])
    if found.mean == 0.0 or not math.isfinite(found.error):
        p = 1.0
    elif found.error == 0.0:
        p = 0.0
    else:
        p = float(optimize.brentq(lambda p: _half(sources, p) - abs(found.mean), sys.float_info.min, 1.0))
    return Difference(found.mean, found.error, found.low, found.high, p)


def _interval(table: Table, groups: Sequence[Table], level: float) -> Interval:
    """Return the sum over tasks of means, chance being of the items in `table` and the seeds in `groups`."""
    mean = math.fsum(float(rows.mean()) for rows in table.values())
    sources = _sources(table, groups)
    if not sources:  # one item of each task, one run
        return Interval(mean, math.inf, -math.inf, math.inf)
    error = math.sqrt(math.fsum(variance for variance, _ in sources))
    half = _half(sources, 1 - level)
    return Interval(mean, error, mean - half, mean + half)


def _sources(table: Table, groups: Sequence[Table]) -> list[tuple[float, int]]:
    """Return each part of the variance of a mean with its degrees of freedom: one a task, one a group of seeds."""
    found = []
    for rows in table.values():
        items = rows.mean(axis=0)
        if len(items) > 1:
            found.append((float(items.var(ddof=1)) / len(items), len(items) - 1))
    for group in groups:
        seeds = np.sum([rows.mean(axis=1) for rows in group.values()], axis=0)
        if len(seeds) > 1:
            found.append((float(seeds.var(ddof=1)) / len(seeds), len(seeds) - 1))
    return found


def _half(sources: Sequence[tuple[float, int]], p: float) -> float:
    """Return half the width of the interval of level 1 - p."""
    return math.hypot(*(float(stats.t.isf(p / 2, freedom)) * math.sqrt(variance) for variance, freedom in sources))


def _table(runs: Runs, anchors: Anchors, weights: Weights | None) -> Table:
    if not runs:
        raise ValueError("a group without runs")
    factors = task_factors(runs[0], anchors, weights)
    found = {}
    for task, factor in factors.items():
        rows = [np.asarray(run.get(task, ()), dtype=np.float64) for run in runs]
        if any(run.keys() != runs[0].keys() or row.shape != rows[0].shape for run, row in zip(runs, rows, strict=True)):
            raise ValueError("the runs of a group have other tasks or numbers of items")
        if rows[0].ndim != 1 or not len(rows[0]) or not np.isfinite(rows).all():
            raise ValueError("scores must be sequences of finite numbers")
        low, high = anchors[task]
        found[task] = factor * (np.array(rows) - (low if high > low else 0.0))
    return found
