"""A recording made from a synthetic landscape, whose truth is known: what is fitted to it can be judged."""

import itertools

import numpy as np

from evomerge.landscapes import landscape

TRUTH = "merge-18d-3"


def record(path, *, levels=4, sampled=150, items=96):
    """Write what `scripts/record_landscape.py` would write."""
    truth = landscape(TRUTH)
    sample = truth.sample(items, 5)
    axis = np.linspace(0, 1, levels)
    grid = np.array(list(itertools.product(axis, repeat=3)))
    layered = np.random.default_rng(0).random((sampled, 18))
    starts = np.array(list(truth.baselines.values()))
    whole = np.hstack([np.repeat(grid, 3, axis=1), np.zeros((len(grid), 9))])  # the grid's points in the large space
    arrays = {}
    for part, points in (("grid", whole), ("layered", layered), ("baselines", starts)):
        outcomes = [sample.outcomes(point) for point in points]
        for t, task in enumerate(truth.tasks):
            arrays[f"{part}_{task}"] = np.packbits(np.array([row[t] for row in outcomes]) > 0.5, axis=1)
    np.savez_compressed(
        path,
        grid=grid.astype(np.float32),
        layered=layered.astype(np.float32),
        items=np.array([items] * 3),
        tasks=np.array(truth.tasks),
        dimensions=np.array([dimension.name for dimension in truth.dimensions]),
        baselines=np.array(list(truth.baselines)),
        **arrays,
    )
    return path
