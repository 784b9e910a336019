"""Weighted ridge regression in closed form, with the ridge chosen by cross-validation.

    minimise  sum_i w_i (y_i - a - b.f_i)^2  +  ridge * sum_j penalty_j b_j^2

One singular value decomposition serves all ridges. Leaving out point i changes its residual r_i to r_i / (1 - h_i), h_i
being its leverage (Allen 1974; the ridge is held), so cross-validation needs no refit. The constant is not penalised.
Errors are those of the Bayesian reading of ridge (prior variance of b_j: variance / (ridge * penalty_j)), so that they
grow in directions that no point has tried. This file knows nothing about merging or scores.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

#: Ridges that are tried, in units of the mean weight.
RIDGES = np.logspace(-8, 4, 49)


@dataclass(frozen=True)
class Ridge:
    """A fit to n points of p terms.

    Attributes:
        ridge: the strength chosen.
        constant, slopes: a at the centre, and b (p,).
        centre: the weighted mean of the terms, (p,).
        basis, shrunk: (p, k) and (k,), the directions that points have tried, and 1 / (s^2 + ridge) of each.
        scale: 1 / sqrt(penalty), (p,).
        total: sum of the weights.
        variance: of a response of weight 1, so calibrated that the errors left out match their predicted size.
        leverage: h_i, (n,).
        left_out: prediction of each response by the others, (n,).
    """

    ridge: float
    constant: float
    slopes: Array
    centre: Array
    basis: Array
    shrunk: Array
    scale: Array
    total: float
    variance: float
    leverage: Array
    left_out: Array

    def mean(self, terms: Array) -> Array:
        """Return predictions (n,) for terms (n, p)."""
        return np.asarray(self.constant + (terms - self.centre) @ self.slopes)

    def reach(self, terms: Array) -> Array:
        """Return how far points lie from what was tried: the variance of the prediction over `variance`, (n,)."""
        scaled = (terms - self.centre) * self.scale
        along = scaled @ self.basis
        rest = np.maximum((scaled**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        # n points in p > n terms: the prior alone holds the rest
        rest = np.where(rest > 1e-9 * (scaled**2).sum(axis=1), rest, 0.0)
        return np.asarray(1.0 / self.total + along**2 @ self.shrunk + rest / self.ridge)


def fit(terms: Array, responses: Array, weights: Array, penalty: Array, ridge: float | None = None) -> Ridge:
    """Fit terms (n, p) to responses (n,) with weights (n,) and penalties (p,); n >= 2.

    `ridge`: None chooses the one of `RIDGES` (times the mean weight) with the smallest generalised cross-validation
    error (Golub, Heath and Wahba 1979).
    """
    total = float(weights.sum())
    centre = weights @ terms / total
    level = float(weights @ responses / total)
    root, scale = np.sqrt(weights), 1.0 / np.sqrt(penalty)
    left, sizes, right = np.linalg.svd(root[:, None] * (terms - centre) * scale, full_matrices=False)
    target = root * (responses - level)
    along = left.T @ target
    n = len(responses)

    if ridge is None:
        strengths = RIDGES * total / n
        rest = max(float(target @ target - along @ along), 0.0)
        errors = []
        for strength in strengths:
            gone = strength / (sizes**2 + strength)
            squares = rest + float(((gone * along) ** 2).sum())
            errors.append(squares / max(n - 1.0 - len(sizes) + float(gone.sum()), 1e-12) ** 2)
        ridge = float(strengths[int(np.argmin(errors))])
    kept = sizes**2 / (sizes**2 + ridge)
    slopes = scale * (right.T @ (sizes / (sizes**2 + ridge) * along))
    leverage = np.minimum(weights / total + (left**2) @ kept, 1.0 - 1e-9)
    residuals = responses - level - (terms - centre) @ slopes
    return Ridge(
        ridge=ridge,
        constant=level,
        slopes=slopes,
        centre=centre,
        basis=right.T,
        shrunk=1.0 / (sizes**2 + ridge),
        scale=scale,
        total=total,
        variance=float(np.mean(weights * residuals**2 / (1.0 - leverage))),
        leverage=leverage,
        left_out=responses - residuals / (1.0 - leverage),
    )
