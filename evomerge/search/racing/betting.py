"""A bet against a claim, fair if the claim is true: who grows rich by it has evidence that the claim is false.

The claim is that a weighted sum of a candidate's scores over all items is at least a bound. Every step draws one more
item of each objective; from these an unbiased estimate X of (sum - bound) is made, and the wealth is multiplied by
1 - lambda X. If the claim is true, the expected factor is at most 1 whatever was seen before, so the wealth is a
supermartingale, and the probability that it ever reaches 1 / alpha is at most alpha (Ville 1939; for sampling without
replacement Waudby-Smith and Ramdas 2020, arXiv 2006.04347). Nothing is assumed of the scores but that they lie in
[0, 1].

How much is won is another matter. Two things may be chosen before a draw: lambda, and what is expected of each item
(`estimates.unbiased_steps`). For a given lambda `stakes` finds the expectations under which the logarithm of the wealth
grows fastest, were the scores drawn with the probabilities that a predictor gives. A few values of lambda are played
side by side, each with its share of the first wealth. This file knows nothing about where items and expectations come
from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evomerge.search.racing.estimates import unbiased_steps
from evomerge.search.racing.order import Draws, Matrix, Vector

#: Values of lambda, as parts of the largest that can lose nothing but everything: that which loses all to a candidate
#: that solves every item left.
PARTS: Vector = np.array([0.3, 0.6, 0.9])
#: A factor is never below 1 minus this.
LOSS = 0.995
#: Predicted probabilities are kept this far from 0 and 1.
DOUBT = 0.02
#: Newton steps of `stakes`.
STEPS = 5
#: Differences of means that are no more than rounding, and the smallest that a bet is divided by.
ROUNDING, SMALLEST = 1e-9, 1e-6


@dataclass(frozen=True)
class Steps:
    """What happened to one objective since the last look.

    Attributes:
        size: number of all items.
        scored: sum of the scores of all items drawn before.
        predicted: probability that the candidate solves each item that was left, as known before.
        draws: the items drawn; none if all had been drawn.
        scores: their scores.
    """

    size: int
    scored: float
    predicted: Vector
    draws: Draws
    scores: Vector


class Bets:
    """Bets against several claims with the same factors, all along a race.

    Args:
        factors: of the objectives' scores.
        bounds: of each claim.
    """

    def __init__(self, factors: Sequence[float], bounds: Sequence[float]) -> None:
        self.factors = tuple(factors)
        self.bounds: Vector = np.repeat(np.array(bounds, dtype=np.float64), len(PARTS))
        self.parts: Vector = np.tile(PARTS, len(bounds))
        self.log_wealth: Vector = np.full(len(self.bounds), -np.log(len(PARTS)))

    def take(self, objectives: Sequence[Steps]) -> Matrix:
        """Take in what happened to each objective.

        Returns the wealth of each claim's bet after each step, infinite once the claim is certainly false.
        """
        steps = max(len(one.scores) for one in objectives)
        least = sum(a * one.scored / one.size for a, one in zip(self.factors, objectives, strict=True)) - self.bounds
        gains = [a * len(one.predicted) / one.size for a, one in zip(self.factors, objectives, strict=True)]
        most = least + sum(gains)
        self.log_wealth[most < -ROUNDING] = np.inf
        if sum(gains) == 0.0:
            return self._wealth(np.repeat(self.log_wealth[:, None], steps, axis=1))
        wanted = self.parts / np.maximum(most, SMALLEST)
        values = np.repeat(-self.bounds[:, None], steps, axis=1)
        highest = values.copy()
        for factor, one, expected in zip(
            self.factors, objectives, self._expectations(objectives, gains, wanted), strict=True
        ):
            n = len(one.scores)
            if n and factor > 0.0:
                found, limit = unbiased_steps(expected, one.draws, one.scores, scored=one.scored, size=one.size)
                values[:, :n] += factor * found
                highest[:, :n] += factor * limit
            exact = factor * (one.scored + float(one.scores.sum())) / one.size  # after its last item
            values[:, n:] += exact
            highest[:, n:] += exact
        sure = np.logical_or.accumulate(highest < -ROUNDING, axis=1)
        played = np.minimum(wanted[:, None], LOSS / np.maximum(highest, SMALLEST))
        path = self.log_wealth[:, None] + np.cumsum(np.log1p(-np.where(sure, 0.0, played * values)), axis=1)
        path[sure] = np.inf
        self.log_wealth = path[:, -1].copy()
        return self._wealth(path)

    def _wealth(self, path: Matrix) -> Matrix:
        return np.asarray(np.exp(path).reshape(-1, len(PARTS), path.shape[1]).sum(axis=1))

    def _expectations(self, objectives: Sequence[Steps], gains: Sequence[float], wanted: Vector) -> list[Matrix]:
        """Return what each lambda wants to be expected of the items left, objective by objective."""
        shares = [gain / sum(gains) for gain in gains]
        # What a step leaves of the wealth is a sum over objectives: each gets what it can lose and a share of the rest.
        budgets = [wanted * gain + (1.0 - self.parts) * share for gain, share in zip(gains, shares, strict=True)]
        means = [float(one.predicted.mean()) if len(one.predicted) else 0.0 for one in objectives]
        usual = [budget - wanted * gain * mean for budget, gain, mean in zip(budgets, gains, means, strict=True)]
        found = []
        for j, (factor, one) in enumerate(zip(self.factors, objectives, strict=True)):
            if factor == 0.0 or not len(one.scores):
                found.append(np.zeros((len(wanted), len(one.predicted))))
                continue
            others = np.sum([usual[k] for k in range(len(usual)) if k != j], axis=0) + np.zeros(len(wanted))
            chances = one.draws.chances[0]
            costs = wanted[:, None] * factor / (one.size * chances)
            kept = stakes(np.clip(one.predicted, DOUBT, 1.0 - DOUBT), chances, costs, budgets[j], others)
            found.append((kept - budgets[j][:, None]) / costs + chances * float(one.predicted.sum()))
        return found


def stakes(predicted: Vector, chances: Vector, costs: Matrix, budgets: Vector, others: Vector) -> Matrix:
    """Return what to keep of the wealth if the next item is i and is failed, so that its logarithm grows fastest.

    Args:
        predicted: (n,) probability that each item is solved, between 0 and 1.
        chances: (n,) probability that each is drawn.
        costs: (k, n) what is lost if it is drawn and solved; their mean is at most the budget.
        budgets: (k,) mean over items of what is kept.
        others: (k,) what is kept in other objectives.

    Returns (k, n) numbers y >= costs that maximise the mean, over items and outcomes, of log(others + y - cost if
    solved), under the condition that the mean of y is the budget. Where the derivative of the Lagrangian is zero,
    (1 - p) / (others + y) + p / (others + y - cost) = 1 / mu: a quadratic equation for each item, nearly linear in mu,
    which is found by Newton's method. Nothing but speed depends on how exactly.
    """
    floor, aim = costs + others[:, None], budgets + others
    linear = (1.0 - predicted) * costs
    mu = aim.copy()
    for _ in range(STEPS):
        total = costs + mu[:, None]
        root = np.sqrt(np.maximum(total * total - 4.0 * mu[:, None] * linear, 1e-12))
        kept = np.maximum((total + root) / 2.0, floor)
        slope = np.where(kept > floor, (kept - linear) / root, 0.0) @ chances
        mu = np.clip(mu + (aim - kept @ chances) / np.maximum(slope, 1e-3), mu / 4.0, mu * 4.0)
    best: Matrix = kept - others[:, None]
    return best
