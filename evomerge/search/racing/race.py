"""One candidate's race: which items to score next, and whether it still can be as good as those it runs against.

The promise: a candidate that full evaluation would find as good as all its references is stopped with a probability of
at most alpha, over the random order of its items alone. Nothing is assumed of models, items or the search that made the
references: the scores on all items are taken as given, so how the references were chosen does not matter.

A candidate as good as all references lies in one of a few regions, and there all claims of that region hold (`claims`).
Then the bets against these claims are fair (`betting`), and so is their mean. Hence it is stopped when for every region
the mean of the bets has reached 1 / alpha. This file knows nothing about what an item is.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from evomerge.optimizers.base import Objective
from evomerge.optimizers.scalarization import scalarization
from evomerge.search.racing.betting import Bets, Steps
from evomerge.search.racing.claims import Claim, regions
from evomerge.search.racing.estimates import Estimate, combine, unbiased_steps
from evomerge.search.racing.irt import Rasch
from evomerge.search.racing.order import Draws, Matrix, Places, Vector, draw
from evomerge.search.racing.prediction import OwnMean, Predictor, Regression
from evomerge.search.racing.settings import RacingSettings, Rule

#: Expectations are renewed when the items seen have grown by this part.
RENEWAL = 0.15


class _Course:
    """The items of one objective: those scored, those left, and what is expected of them."""

    def __init__(self, known: Matrix, settings: RacingSettings) -> None:
        self.size = known.shape[1]
        matched, own = Regression(known), OwnMean(self.size)
        self.inform: Predictor = matched if settings.order == "information" else own
        self.expect: Predictor = matched
        if settings.estimate != "paired":
            self.expect = own if settings.estimate == "plain" else Rasch(known)
        self.places: list[int] = []
        self.scores: list[float] = []
        self.steps: list[float] = []
        self.left: Places = np.arange(self.size)
        self.draws: Draws | None = None

    def draw(self, count: int, generator: np.random.Generator) -> tuple[int, ...]:
        """Draw the next items, as many as there are."""
        expected = self.inform(np.array(self.places, dtype=np.int64), np.array(self.scores))[self.left]
        spread = np.sqrt(expected * (1.0 - expected))
        self.draws = draw(self.left, spread, min(count, len(self.left)), generator)
        return tuple(self.draws.places.tolist())

    def take(self, scores: Sequence[float], start: int, stop: int) -> Steps:
        """Take in some of the scores of the last block; return what happened."""
        assert self.draws is not None
        draws, found = self.draws.part(start, stop), np.array(scores[start:stop], dtype=np.float64)
        predicted = self.expect(np.array(self.places, dtype=np.int64), np.array(self.scores))[draws.left]
        scored = math.fsum(self.scores)
        self.steps += unbiased_steps(predicted[None], draws, found, scored=scored, size=self.size)[0][0].tolist()
        self.places += draws.places.tolist()
        self.scores += found.tolist()
        self.left = np.delete(draws.left, draws.drawn)
        return Steps(self.size, scored, predicted, draws, found)

    def estimate(self) -> Estimate:
        """Return the estimate from the scores so far."""
        if not len(self.left):
            return Estimate(math.fsum(self.scores) / self.size, 0.0, tuple(self.places))
        return Estimate(*combine(self.steps, self.size), tuple(self.places))


class Race:
    """One candidate's race.

    Args:
        settings: how it is run.
        objectives: what counts, with `low`, `high`, `weight` and `floor`.
        rule: what "as good" means (`claims.regions`).
        known: complete trials: number -> for each objective the scores of all its items, in [0, 1], in the order of
            the run. At least one trial; it says how many items there are, and what is to be expected of them.
        references: numbers of those among them that the candidate runs against. Without any it is never stopped.
        seed: of the candidate's own generator.

    Attributes:
        beaten_by: number of the reference that stopped the candidate; None while it runs, and where all of its items
            were scored. Where several did so together it is the best of them, or, on a front, the one ahead by most.

    Raises `ValueError` for arguments that do not fit each other.
    """

    def __init__(
        self,
        settings: RacingSettings,
        objectives: Sequence[Objective],
        *,
        rule: Rule,
        known: Mapping[int, Sequence[Vector]],
        references: Sequence[int],
        seed: int,
    ) -> None:
        if not known:
            raise ValueError("a race needs at least one complete trial")
        columns = [np.stack([np.asarray(rows[j], float) for rows in known.values()]) for j in range(len(objectives))]
        if any(matrix.min() < 0.0 or matrix.max() > 1.0 for matrix in columns):
            raise ValueError("a race needs scores between 0 and 1")
        self.settings = settings
        self.beaten_by: int | None = None
        self._generator = np.random.default_rng(seed)
        self._courses = [_Course(matrix, settings) for matrix in columns]
        self._objectives, self._rule = tuple(objectives), rule
        self._references = {number: [float(np.mean(row)) for row in known[number]] for number in references}
        self._regions = regions(objectives, rule, list(self._references.values()), settings.margin)
        claims = dict.fromkeys(claim for region in self._regions for claim in region)
        alike: dict[tuple[float, ...], list[Claim]] = {}
        for claim in claims:
            alike.setdefault(claim.factors, []).append(claim)
        self._bets = [(same, Bets(factors, [claim.bound for claim in same])) for factors, same in alike.items()]
        self._block: tuple[tuple[int, ...], ...] | None = None

    def block(self) -> tuple[tuple[int, ...], ...] | None:
        """Return the places of the items to score next, for each objective (none for one that has none left).

        None: the race is over. Until its scores are taken, the same block is returned.
        """
        if self._block is None and self.beaten_by is None and any(len(course.left) for course in self._courses):
            seen = max(len(course.places) for course in self._courses)
            count = max(math.ceil(seen * self.settings.eta) - seen, 1) if seen else self.settings.first
            self._block = tuple(course.draw(count, self._generator) for course in self._courses)
        return self._block

    def take(self, scores: Sequence[Sequence[float]]) -> None:
        """Take the scores of the block last given, in its order; `ValueError` if they do not fit it."""
        if self._block is None or [len(row) for row in scores] != [len(places) for places in self._block]:
            raise ValueError("the scores do not fit the block")
        if not all(0.0 <= score <= 1.0 for row in scores for score in row):
            raise ValueError("a race needs scores between 0 and 1")
        self._block = None
        start, length, beaten = 0, max(len(row) for row in scores), False
        while start < length:
            seen = max(len(course.places) for course in self._courses)
            stop = min(start + max(int(RENEWAL * seen), 1), length)
            steps = [course.take(row, start, stop) for course, row in zip(self._courses, scores, strict=True)]
            beaten = beaten or self._bet(steps)
            start = stop
        if beaten and any(len(course.left) for course in self._courses):
            self.beaten_by = self._winner()

    def results(self) -> list[Estimate]:
        """Return the estimate of each objective from the scores so far; `ValueError` before the first block."""
        if not all(course.places for course in self._courses):
            raise ValueError("nothing has been scored yet")
        return [course.estimate() for course in self._courses]

    def _bet(self, steps: Sequence[Steps]) -> bool:
        """Bet on some steps; return whether the candidate is proved not to be as good as its references."""
        if not self._regions:
            return False
        paths = {claim: path for same, bets in self._bets for claim, path in zip(same, bets.take(steps), strict=True)}
        wealth = [np.mean([paths[claim] for claim in region], axis=0) for region in self._regions]
        return bool(np.min(wealth, axis=0).max() >= 1.0 / self.settings.alpha)

    def _winner(self) -> int:
        """Return the best reference, or the one of the front that dominates the candidate by most, as estimated."""
        goals, found = self._objectives, [one.mean for one in self.results()]

        def ahead(number: int) -> float:
            values = self._references[number]
            if self._rule != "front":
                return scalarization(self._rule)(goals, values)
            return min(one.normalise(v) - one.normalise(f) for one, v, f in zip(goals, values, found, strict=True))

        return max(self._references, key=ahead)
