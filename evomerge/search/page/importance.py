"""Which dimensions the scores depend on, and how sure that is.

A quadratic surrogate of each task's scores is fitted to all scored trials in the space (`optimizers/map`), and the
importance of a dimension is its total Sobol index (Homma and Saltelli 1996): the share of the surrogate's variance that
is left when all dimensions but this one are held, over the box that was sampled, however the search went about in it.
Shares are scaled to add up to the surrogate's R2 on trials left out, so that what noise makes of the scores, and what
no quadratic can say, is nobody's importance. Where the surrogate is not trusted there is no importance at all.

This file knows nothing about how surrogates are fitted.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.optimizers.map import Surrogates, fit_surrogates
from evomerge.search.page.numbers import short
from evomerge.search.page.view import View
from evomerge.search.record import Trial
from evomerge.threads import one_thread

Array = npt.NDArray[np.float64]

JOINED = "joined"
#: Fewer trials, for each dimension and in all, say nothing about it.
LEAST_PER_DIMENSION, LEAST = 2, 16
#: Trials that a surrogate is fitted to at most, taken from a longer search at even distances.
MOST_TRIALS = 600
#: Points of the box at which indices are taken (Sobol's; a power of two).
POINTS = 1024


@one_thread()
def importance(view: View) -> tuple[dict[str, list[dict[str, Any]] | None], str]:
    """Return task -> dimension, share and its standard error, largest first (None where nothing can be said), "joined"
    for the mean of normalised scores; and a text that says how it was computed and how far it may be believed.
    """
    nothing: dict[str, list[dict[str, Any]] | None] = dict.fromkeys([*view.tasks, JOINED])
    if not view.spaces:
        return nothing, "Not computed: the search space is not known here."
    dimensions = view.spaces[-1].dimensions
    rows = [trial for trial in view.trials if "search" in trial.scores and trial.number in view.vectors]
    least = max(LEAST_PER_DIMENSION * len(dimensions), LEAST)
    if len(rows) < least:
        return nothing, (
            f"Not computed: {len(rows)} scored models in the space are too few for {len(dimensions)} dimensions "
            f"({least} are the least)."
        )
    if len(rows) > MOST_TRIALS:
        rows = [rows[i] for i in np.linspace(0, len(rows) - 1, MOST_TRIALS).round().astype(int)]
    found = _fit(view, rows)
    r2 = {task: diagnostics.r2 for task, diagnostics in found.diagnostics.items()}
    trusted = {task: diagnostics.trusted for task, diagnostics in found.diagnostics.items()}
    factors = _factors(view)
    believed = [*r2.values(), float(np.average([*r2.values()], weights=np.abs(factors)))]
    shares = _shares(found, factors, believed)
    halves = [_shares(_fit(view, half), factors, believed) for half in (rows[::2], rows[1::2])]
    # half the difference of two halves has the variance of the whole's share; that of all dimensions is pooled
    errors = np.sqrt(np.square((halves[0] - halves[1]) / 2).mean(axis=1))
    known = [*trusted.values(), all(trusted.values())]
    names = [dimension.name for dimension in dimensions]
    tasks = [*view.tasks, JOINED]
    result = {
        task: _ranked(names, shares[j], float(errors[j])) if known[j] and shares[j].any() else None
        for j, task in enumerate(tasks)
    }
    return result, _note(len(rows), r2, trusted)


def _fit(view: View, trials: Sequence[Trial]) -> Surrogates:
    scores = [[trial.scores["search"][task] for task in view.tasks] for trial in trials]
    return fit_surrogates(
        view.spaces[-1].dimensions,
        view.scales,
        [view.vectors[trial.number] for trial in trials],
        [[score.mean for score in row] for row in scores],
        [[score.items for score in row] for row in scores],
        errors=[[score.error for score in row] for row in scores],
    )


def _factors(view: View) -> list[float]:
    """What each task's score is multiplied with in the joined one."""
    total = sum(scale.weight for scale in view.scales)
    return [scale.weight / total * (scale.normalise(1.0) - scale.normalise(0.0)) for scale in view.scales]


def _total_indices(found: Surrogates, factors: Sequence[float]) -> Array:
    """Return total Sobol indices, (tasks + 1, dimensions), the last row of the joined score; Jansen's estimator."""
    from scipy.stats import qmc

    low, high = found.box()
    d = len(low)
    unit = qmc.Sobol(2 * d, scramble=True, rng=np.random.default_rng(0)).random(POINTS)
    first, second = low + unit[:, :d] * (high - low), low + unit[:, d:] * (high - low)

    def outputs(points: Array) -> Array:
        means = found.means(points)
        return np.column_stack([means, means @ np.array(factors)])

    here, there = outputs(first), outputs(second)
    variance = np.vstack([here, there]).var(axis=0)
    indices = np.zeros((len(variance), d))
    for j in range(d):
        moved = first.copy()
        moved[:, j] = second[:, j]
        indices[:, j] = ((here - outputs(moved)) ** 2).mean(axis=0) / 2
    return np.asarray(indices / np.where(variance > 1e-18, variance, np.inf)[:, None])


def _shares(found: Surrogates, factors: Sequence[float], believed: Sequence[float]) -> Array:
    """Return the shares, (tasks + 1, dimensions), those of each row adding up to what is `believed` of it."""
    indices = _total_indices(found, factors)
    total = indices.sum(axis=1, keepdims=True)
    return np.asarray(indices / np.where(total > 0, total, np.inf) * np.clip(believed, 0.0, 1.0)[:, None])


def _ranked(names: Sequence[str], shares: Array, error: float) -> list[dict[str, Any]]:
    order = np.argsort(-shares, kind="stable")
    return [{"dimension": names[i], "share": short(float(shares[i])), "error": short(error)} for i in order]


def _note(count: int, r2: Mapping[str, float], trusted: Mapping[str, bool]) -> str:
    figures = ", ".join(
        f"{task} {value:.2f}{'' if trusted[task] else ' (too little: left out)'}" for task, value in r2.items()
    )
    return (
        f"Total Sobol indices of quadratic surrogates fitted to {count} scored models, over the box that was sampled. "
        f"They add up to the part of the differences between models left out that the surrogates explain (R2): "
        f"{figures}. The rest is noise of the items, or what a quadratic cannot say. Bars: two standard errors, from "
        "the two halves of the models."
    )
