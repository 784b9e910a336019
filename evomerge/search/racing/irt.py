"""Item response theory: what a model of some ability scores on an item of some difficulty (Rasch 1960).

The idea of MERGE3 (arXiv 2502.10436), fitted to the run's own results: P(solved) = sigmoid(ability - difficulty). Used
as an expectation only, so that a model that fits badly costs items and never truth. This file knows nothing about
races.
"""

import numpy as np
from scipy.special import expit, log_expit

from evomerge.search.racing.order import Matrix, Places, Vector

#: Prior standard deviation of difficulties and abilities, in logits: keeps items that all or none solve finite.
SPREAD = 2.0
#: Abilities that a candidate may have.
ABILITIES: Vector = np.linspace(-8.0, 8.0, 65)


def rasch(known: Matrix, *, rounds: int = 20) -> tuple[Vector, Vector]:
    """Fit abilities and difficulties to scores in [0, 1], each with a normal prior (joint maximum likelihood).

    Args:
        known: (models, items).
        rounds: Newton steps, of difficulties and abilities in turn.

    Returns abilities (models,) and difficulties (items,).
    """
    abilities, difficulties = np.zeros(known.shape[0]), np.zeros(known.shape[1])
    for _ in range(rounds):
        expected = expit(abilities[:, None] - difficulties)
        curvature = (expected * (1.0 - expected)).sum(axis=0) + SPREAD**-2
        step = ((expected - known).sum(axis=0) - difficulties * SPREAD**-2) / curvature
        difficulties = difficulties + np.clip(step, -1.0, 1.0)
        expected = expit(abilities[:, None] - difficulties)
        curvature = (expected * (1.0 - expected)).sum(axis=1) + SPREAD**-2
        step = ((known - expected).sum(axis=1) - abilities * SPREAD**-2) / curvature
        abilities = abilities + np.clip(step, -1.0, 1.0)
    return abilities, difficulties


class Rasch:
    """Expects what the Rasch model foretells, averaged over the abilities that fit the scores so far.

    Args:
        known: (models, items), scores of complete results in [0, 1], at least one.
    """

    def __init__(self, known: Matrix) -> None:
        abilities, difficulties = rasch(known)
        logits = ABILITIES[:, None] - difficulties
        self.expected: Matrix = expit(logits)
        self.solved: Matrix = log_expit(logits)
        self.failed: Matrix = log_expit(-logits)
        wide = np.exp(-0.5 * (ABILITIES / (2.0 * SPREAD)) ** 2)
        near = np.exp(-0.5 * ((ABILITIES[:, None] - abilities) / 0.5) ** 2).sum(axis=1)
        self.prior: Vector = np.log(0.5 * wide / wide.sum() + 0.5 * near / near.sum())

    def __call__(self, places: Places, scores: Vector) -> Vector:
        """Return the expected score of every item, given the scores at some places."""
        likelihood = self.prior + self.solved[:, places] @ scores + self.failed[:, places] @ (1.0 - scores)
        weights = np.exp(likelihood - likelihood.max())
        expected: Vector = weights @ self.expected / weights.sum()
        return expected
