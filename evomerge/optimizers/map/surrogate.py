"""The surrogate of one objective: a quadratic in a warped space, with the figures that say whether to believe it.

Where it pays by cross-validation, what the quadratic misses at some points is passed on to those nearby (`local.py`).

It is kept as data (points come from outside, responses and weights are here) and fitted anew wherever it is loaded:
the fit is a closed form. This file knows nothing about how points are found.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import kendalltau

from evomerge.optimizers.map import local, ridge, warp
from evomerge.optimizers.map.forms import Form

Array = npt.NDArray[np.float64]

#: A surrogate is believed if, each point being predicted from the others, it explains at least this share of the
#: variance and orders at least so many pairs rightly (Kendall's tau). Of surrogates of pure noise 1 in 100 gets there.
MIN_R2 = 0.1
MIN_TAU = 0.2
#: A penalty of 1 for terms of second order, and this for linear ones: a ridge shrinks to a plane first.
LINEAR_PENALTY = 0.1


@dataclass(frozen=True)
class Diagnostics:
    """How well each point is predicted from the others.

    Attributes:
        points: how many there are.
        coefficients: how many the form has.
        r2: share of the weighted variance explained, in the warped space; below 0: worse than the mean.
        tau: Kendall's tau-b between predictions and scores.
        error: root mean square error, in units of the score.
        noise: residual variance over the variance that the weights promise. Above 1: the landscape is not quadratic.
        coverage: share of the points inside their 95 % prediction intervals.
    """

    points: int
    coefficients: int
    r2: float
    tau: float
    error: float
    noise: float
    coverage: float

    @property
    def trusted(self) -> bool:
        """Say whether the surrogate may be used."""
        return self.r2 >= MIN_R2 and self.tau >= MIN_TAU

    def __str__(self) -> str:
        """Return one line for a person."""
        verdict = "trusted" if self.trusted else "refused"
        return (
            f"{verdict}: {self.points} points, {self.coefficients} coefficients, left-out R2 {self.r2:.2f}, "
            f"Kendall tau {self.tau:.2f}, error {self.error:.3f}"
        )


class Surrogate:
    """A fitted quadratic.

    Args:
        coded: the points (n, columns), coded for `form`.
        values, errors, items: scores, their standard errors and numbers of items, each (n,); n >= 2.
        form: the terms.
        kind: the warp.
        strength: the ridge; None: cross-validation chooses.
        correct: allow the local correction.
    """

    def __init__(
        self,
        coded: Array,
        values: Array,
        errors: Array,
        items: Array,
        *,
        form: Form,
        kind: str,
        strength: float | None = None,
        correct: bool = True,
    ) -> None:
        self.form, self.kind = form, kind
        terms = form.terms(coded)
        penalty = np.where(form.squared(), 1.0, LINEAR_PENALTY)
        responses, weights = warp.bend(kind, values, errors, items)
        if kind == "logit":
            # A lucky score of nearly 0 or 1 would get a small weight of its own making: weights are those of the fit.
            first = ridge.fit(terms, responses, weights, penalty)
            p = warp.unbend(kind, np.clip(first.mean(terms), responses.min(), responses.max()))
            q = warp.unbend(kind, responses)
            weights = weights * (p * (1.0 - p)) / (q * (1.0 - q))
        self.fit = ridge.fit(terms, responses, weights, penalty, strength)
        self.responses, self.weights = responses, weights
        residuals = responses - self.fit.mean(terms)
        self.local = local.fit(coded, residuals, weights) if correct else None
        missed = residuals if self.local is None else self.local.left_out
        self._left_out = responses - missed / (1.0 - self.fit.leverage)
        self.diagnostics = self._diagnose(values)
        self._observed = self._posterior(coded)

    def bent(self, coded: Array) -> tuple[Array, Array]:
        """Return means and standard errors in the warped space, each (n,). A refused surrogate predicts its mean."""
        if not self.diagnostics.trusted:
            spread = np.sqrt(self.weights @ (self.responses - self.fit.constant) ** 2 / self.fit.total)
            return np.full(len(coded), self.fit.constant), np.full(len(coded), spread)
        terms = self.form.terms(coded)
        mean, variance = self.fit.mean(terms), self._noise * self.fit.reach(terms)
        if self.local is not None:
            mean, variance = mean + self.local.mean(coded), variance + self.local.spread(coded)
        return mean, np.sqrt(variance)

    def predict(self, coded: Array, level: float = 0.95) -> tuple[Array, Array, Array]:
        """Return means and the ends of intervals (of the true score, not of a new measurement), each (n,)."""
        mean, error = self.bent(coded)
        z = NormalDist().inv_cdf(0.5 + level / 2)
        low, middle, high = (warp.unbend(self.kind, mean + side * error) for side in (-z, 0.0, z))
        return middle, low, high

    def quadratic(self) -> tuple[Array, Array]:
        """Return b (columns,) and A (columns, columns) of the warped prediction, constant + b x + x A x, x coded."""
        columns = self.form.columns
        b, products = self.fit.slopes[:columns], self.fit.slopes[columns:]
        wide = np.vstack([np.eye(columns), self.form.directions])
        left, right = wide[self.form.pairs[:, 0]], wide[self.form.pairs[:, 1]]
        a = (left * products[:, None]).T @ right
        return b, (a + a.T) / 2

    def reach(self, coded: Array) -> Array:
        """Return how far points lie from what was tried; see `ridge.Ridge.reach`."""
        return self.fit.reach(self.form.terms(coded))

    @property
    def observed(self) -> Array:
        """What the scores at the points themselves are believed to be without their luck, (n,)."""
        return warp.unbend(self.kind, self._observed)

    @property
    def _noise(self) -> float:
        """The variance of a response of weight 1 that neither the quadratic nor the local correction explains."""
        return self.fit.variance if self.local is None else self.local.variance

    def _posterior(self, coded: Array) -> Array:
        """Return the prediction plus that part of each residual which is more than noise, in the warped space."""
        mean, error = self.bent(coded)
        if self.diagnostics.trusted:
            share = np.full(len(coded), max(1.0 - 1.0 / max(self._noise, 1e-12), 0.0))
        else:
            share = error**2 / (error**2 + 1.0 / self.weights)
        return np.asarray(mean + share * (self.responses - mean))

    def _diagnose(self, values: Array) -> Diagnostics:
        y, w, fit = self.responses, self.weights, self.fit
        missed = y - self._left_out
        from_mean = (y - fit.constant) / (1.0 - np.minimum(w / fit.total, 1.0 - 1e-9))
        around = float(w @ from_mean**2)
        varied = float(np.ptp(values)) > 1e-12
        tau = float(kendalltau(self._left_out, values).statistic) if varied and np.ptp(self._left_out) > 0 else 0.0
        predicted = np.sqrt(self._noise / (w * (1.0 - fit.leverage)))
        error = warp.unbend(self.kind, self._left_out) - values
        return Diagnostics(
            points=len(y),
            coefficients=self.form.size,
            r2=1.0 - float(w @ missed**2) / around if varied and around > 0 else 0.0,
            tau=tau if np.isfinite(tau) else 0.0,
            error=float(np.sqrt(np.mean(error**2))),
            noise=self._noise,
            coverage=float(np.mean(np.abs(missed) <= 1.96 * predicted)),
        )


def choose(coded: Array, values: Array, errors: Array, items: Array, *, forms: Sequence[Form], kind: str) -> Surrogate:
    """Return the surrogate with the form that predicts left-out points best.

    Forms with more coefficients than points are not tried, unless all have: then it is the smallest.
    """
    affordable = [form for form in forms if form.size <= len(values)] or [min(forms, key=lambda form: form.size)]
    made = [Surrogate(coded, values, errors, items, form=form, kind=kind, correct=False) for form in affordable]
    best = max(made, key=lambda surrogate: surrogate.diagnostics.r2)
    return Surrogate(coded, values, errors, items, form=best.form, kind=kind)


def as_plain(diagnostics: Diagnostics) -> dict[str, Any]:
    """Return the figures and the verdict as JSON data."""
    return {**asdict(diagnostics), "trusted": diagnostics.trusted}
