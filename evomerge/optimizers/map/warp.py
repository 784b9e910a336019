"""Where a quadratic is fitted: scores are bent so that a plain quadratic may run from minus to plus infinity.

An accuracy in [0, 1] is fitted as its logit, a loss as the inverse of softplus (the activations of MAP, arXiv
2406.07529, the other way round: the fit stays linear), anything else as it is. The weight of a score is the inverse
variance of its bent value. This file knows nothing about fits.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

WARPS = ("logit", "softplus", "identity")
_LEAST = 1e-12  # a loss of 0 and a spread of 0 have no logarithm and no inverse


def choose(values: Sequence[float] | Array) -> str:
    """Return the warp for scores: logit in [0, 1], softplus where all are negative (losses), else identity."""
    values = np.asarray(values, dtype=float)
    if values.min() >= 0.0 and values.max() <= 1.0:
        return "logit"
    return "softplus" if values.max() <= 0.0 else "identity"


def bend(kind: str, values: Array, errors: Array, items: Array) -> tuple[Array, Array]:
    """Return bent scores and their weights, each of the scores' shape (n,).

    Logit: y = logit((s + 1/2) / (n + 1)) for s = n p right answers, weight n p (1 - p). n is the number of items that
    the standard error speaks for, p (1 - p) / error^2: for scores of 0 and 1 that is `items`, for an estimate from a
    race it may be more or fewer. Where the error says nothing (0, or p is 0 or 1) `items` is taken. The others are
    weighted by 1 / (error x slope)^2, by `items` where all errors are 0.
    """
    if kind == "logit":
        spread = values * (1.0 - values)
        telling = (errors > 0.0) & (spread > 0.0)
        n = np.where(telling, spread / np.where(telling, errors, 1.0) ** 2, items)
        n = np.clip(n, 0.5, 1e12)
        p = (n * values + 0.5) / (n + 1.0)
        return np.log(p / (1.0 - p)), n * p * (1.0 - p)
    if kind == "softplus":
        loss = np.maximum(-values, _LEAST)
        # log(exp(loss) - 1), which is loss itself where that is large
        bent, slope = -(loss + np.log(-np.expm1(-loss))), 1.0 / -np.expm1(-loss)
    else:
        bent, slope = values.astype(float), np.ones_like(values)
    positive = errors[errors > 0.0]
    if not positive.size:
        return bent, items.astype(float)
    least = 0.1 * float(np.median(positive))  # an error of 0 is a lack of items, not certainty
    return bent, 1.0 / (np.maximum(errors, least) * slope) ** 2


def unbend(kind: str, bent: Array) -> Array:
    """Return scores, any shape."""
    if kind == "logit":
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * bent)))
    if kind == "softplus":
        return np.asarray(-np.logaddexp(0.0, -bent))
    return bent
