"""What a candidate is expected to score on each item, from its scores so far and the complete results of others.

Expectations make tests and estimates sharper, never biased: they stand for what is taken off the scores before and
added again as a mean (a control variate), and an expectation of an item uses only what was known before it was drawn.
Two merges of the same models answer most items alike, so a combination of known results that fits the first few items
foretells most of the others. This file knows nothing about races.
"""

from typing import Protocol

import numpy as np

from evomerge.search.racing.order import Matrix, Places, Vector

#: Variance of what a combination of known results cannot explain; of 0.05 to 0.2, all do about as well.
NOISE = 0.1
#: So many directions in which the known results differ are followed at most.
DIRECTIONS = 48


class Predictor(Protocol):
    """Expects the score of every item, in [0, 1], from the scores of some."""

    def __call__(self, places: Places, scores: Vector) -> Vector:
        """Return the expected score of every item, given the scores at some places."""


class OwnMean:
    """Expects the candidate's own mean so far on every item (shrunk to 1/2): nothing is known of other models."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, places: Places, scores: Vector) -> Vector:
        """Return the expected score of every item, given the scores at some places."""
        return np.full(self.size, (float(scores.sum()) + 0.5) / (len(scores) + 1.0))


class Regression:
    """Expects the combination of known results that fits the scores so far.

    The candidate's scores are taken for a draw from a normal distribution with the mean and the covariance of the known
    ones (and one more direction: all scores lower or higher by one factor), plus noise; expected is the mean of that
    distribution given the scores so far. This is ridge regression on the known results.

    Args:
        known: (models, items), scores of complete results in [0, 1], at least one.
    """

    def __init__(self, known: Matrix) -> None:
        self.mean: Vector = (known.sum(axis=0) + 0.5) / (len(known) + 1.0)
        _, sizes, directions = np.linalg.svd((known - self.mean) / np.sqrt(len(known)), full_matrices=False)
        kept = sizes[:DIRECTIONS, None] * directions[:DIRECTIONS]
        self.directions: Matrix = np.vstack([kept, 0.5 * self.mean])

    def __call__(self, places: Places, scores: Vector) -> Vector:
        """Return the expected score of every item, given the scores at some places."""
        seen = self.directions[:, places]
        precision = np.eye(len(seen)) + seen @ seen.T / NOISE
        weights = np.linalg.solve(precision, seen @ (scores - self.mean[places]) / NOISE)
        expected: Vector = np.clip(self.mean + weights @ self.directions, 0.0, 1.0)
        return expected
