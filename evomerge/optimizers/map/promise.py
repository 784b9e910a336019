"""What a predicted score is worth: an interval for the score that a model made from it will get on other items.

Three things keep a prediction from the score on n new items. The surrogate errs (its own error says how far). The items
that it was fitted to are a sample, the same for all points, so that all predictions err together and no residual shows
it. And the n new items are a sample too. The last two are s^2 / n each, s being the spread of one item's score:

    variance = surrogate's + s^2 / (items searched) + s^2 / (new items)

Besides, whoever takes the best of many predictions takes what luck has raised (the winner's curse). How much, is
measured by cross-fitting: the items are cut in halves, surrogates are fitted to the scores on each, the best point of
one half is predicted by the other, which had no part in the choice. The difference is the flattery of half as many
items, twice that of all. This file knows nothing about how the best points are found, nor about models.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv

from evomerge.optimizers.map import forms
from evomerge.optimizers.map.surrogate import Surrogate
from evomerge.optimizers.map.surrogates import Surrogates

Array = npt.NDArray[np.float64]

#: Of a promise, for all tasks together.
LEVEL = 0.95
#: Of an interval of one standard error to each side.
ONE_ERROR = 0.6826895
#: Cuts of the items into halves.
CUTS = 6
#: Fewer items cannot be cut in halves.
FEWEST_ITEMS = 4


@dataclass(frozen=True)
class Answers:
    """The scores of single items.

    Attributes:
        rows: of which of the surrogates' points, (k,); those that were scored on all items.
        scores: for each objective (k, items).
    """

    rows: tuple[int, ...]
    scores: tuple[Array, ...]


def promise(
    surrogates: Surrogates, vectors: Array, flattery: Array, answers: Answers, items: Sequence[int]
) -> tuple[Array, Array]:
    """Return both ends of the intervals, each (n, m), for the scores at points (n, d) on `items[j]` new items each.

    With probability `LEVEL` the scores of all m tasks lie inside at once (Sidak 1967: each at the m-th root).

    Args:
        surrogates: fitted to the scores on the items searched.
        vectors: the points.
        flattery: (n, m), what the predictions are too high by; see `flattery_of`.
        answers: item scores at fitted points.
        items: number of new items, for each objective.
    """
    tail = 0.5 * (1.0 - LEVEL ** (1.0 / len(surrogates.models)))
    coded = forms.code(surrogates.dimensions, vectors)
    ends = [
        _ends(model, coded, flattery[:, j], scores, n, tail)
        for j, (model, scores, n) in enumerate(zip(surrogates.models, answers.scores, items, strict=True))
    ]
    low, high = zip(*ends, strict=True)
    return np.stack(low, axis=1), np.stack(high, axis=1)


def flattery_of(
    surrogates: Surrogates,
    answers: Answers,
    weights: Array,
    best: Callable[[Surrogates, Array], Array],
    *,
    seed: int,
) -> Array | None:
    """Return by how much the predictions at the best points for preferences are too high, (m, 2).

    It is measured at the points that `best(surrogates of a half, weights)` returns, (w, d), for preferences (w, m), and
    smoothed over these: a constant, and what is added where all weight is on the task itself. None where there are too
    few items to cut, or no cut gives two halves that can be trusted.
    """
    if min(scores.shape[1] for scores in answers.scores) < FEWEST_ITEMS:
        return None
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(CUTS):
        orders = [rng.permutation(scores.shape[1]) for scores in answers.scores]
        halves = [_refitted(surrogates, answers, [order[side::2] for order in orders]) for side in (0, 1)]
        if not all(half.trusted for half in halves):
            continue
        for one, other in (halves, halves[::-1]):
            places = best(one, weights)
            found.append(one.means(places) - other.means(places))
    if not found:
        return None
    measured = np.mean(found, axis=0) / 2.0
    smooth = []
    for j, column in enumerate(measured.T):
        terms = np.stack([np.ones(len(weights)), weights[:, j] / weights.sum(axis=1)], axis=1)
        smooth.append(np.linalg.lstsq(terms, column, rcond=None)[0])
    return np.array(smooth)


def _refitted(surrogates: Surrogates, answers: Answers, places: Sequence[npt.NDArray[np.int64]]) -> Surrogates:
    """Return surrogates of the same form for the scores on some of the items, for each objective."""
    rows = list(answers.rows)
    points = surrogates.points[rows]
    coded = forms.code(surrogates.dimensions, points)
    parts = [scores[:, own] for scores, own in zip(answers.scores, places, strict=True)]
    values = np.stack([part.mean(axis=1) for part in parts], axis=1)
    errors = np.stack([part.std(axis=1, ddof=1) / np.sqrt(part.shape[1]) for part in parts], axis=1)
    items = np.stack([np.full(len(rows), float(part.shape[1])) for part in parts], axis=1)
    models = [
        Surrogate(coded, values[:, j], errors[:, j], items[:, j], form=model.form, kind=model.kind)
        for j, model in enumerate(surrogates.models)
    ]
    return Surrogates(
        surrogates.dimensions,
        surrogates.objectives,
        points=points,
        values=values,
        errors=errors,
        items=items,
        coefficients=surrogates.coefficients,
        models=models,
    )


def _ends(
    model: Surrogate, coded: Array, flattery: Array, scores: Array, items: int, tail: float
) -> tuple[Array, Array]:
    """Return both ends for one objective, each (n,)."""
    predicted, below, above = model.predict(coded, ONE_ERROR)
    middle, error = predicted - flattery, (above - below) / 2.0
    searched = scores.shape[1]
    each = scores.var(axis=1, ddof=1)
    if model.kind != "logit":
        half = NormalDist().inv_cdf(1.0 - tail) * np.sqrt(error**2 + each.mean() * (1.0 / searched + 1.0 / items))
        return middle - half, middle + half
    # Scores in [0, 1]: a beta distribution of that mean and variance, which keeps to the ends of the scale. As if half
    # an item more was solved and half an item more was not, so that none of 50 solved is no certainty.
    p = (searched * np.clip(middle, 0.0, 1.0) + 0.5) / (searched + 1.0)
    binomial = float((scores.mean(axis=1) * (1.0 - scores.mean(axis=1))).mean())
    dispersion = min(float(each.mean()) / binomial, 1.0 + 1.0 / searched) if binomial > 0 else 1.0
    spread = p * (1.0 - p)
    variance = error**2 + dispersion * spread * (1.0 / searched + 1.0 / items)
    size = np.maximum(spread / variance - 1.0, 1e-3)
    step = 0.5 / items  # a score is a multiple of 1 / items
    low = np.maximum(betaincinv(p * size, (1.0 - p) * size, tail) - step, 0.0)
    return low, np.minimum(betaincinv(p * size, (1.0 - p) * size, 1.0 - tail) + step, 1.0)
