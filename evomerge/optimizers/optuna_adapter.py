"""Any Optuna sampler as an optimizer: one adapter around a study in memory.

Every dimension is a float in [0, 1], a choice is a category; proposals are asked of the sampler with the full space, so
that it sees them all at once. Optuna's storage, logging and pruning are not used. This file knows nothing about what a
sampler does.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from evomerge.errors import UsageError
from evomerge.optimizers.base import Failure, Objective, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.optimizers.scalarization import Scalarization
from evomerge.recipes import Dimension


class OptunaOptimizer(ReplayedOptimizer):
    """An Optuna sampler behind ask/tell.

    The study sees normalised scores: one value an objective, or one in all where a scalarization is given. Foreign
    points become finished trials of the study, points that are being scored are its running trials, failures its failed
    ones.

    Args:
        dimensions, objectives, seed, first_number: as in `Optimizer`; `seed` is not given to the sampler.
        sampler: a fresh sampler object with a seed of its own. A sampler that draws without one is not repeatable.
        scalarization: joins several objectives for a sampler that knows only one; None: the study has them all.
    """

    multi_objective = True

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        objectives: Sequence[Objective],
        *,
        seed: int,
        sampler: optuna.samplers.BaseSampler,
        first_number: int = 0,
        scalarization: Scalarization | None = None,
    ) -> None:
        super().__init__(dimensions, objectives, seed=seed, first_number=first_number)
        self._scalarize = scalarization
        self._distributions: dict[str, BaseDistribution] = {
            d.name: CategoricalDistribution(d.choices) if d.choices else FloatDistribution(0.0, 1.0)
            for d in self.dimensions
        }
        self._trials: dict[int, optuna.Trial] = {}
        directions = ["maximize"] * (1 if scalarization else len(self.objectives))
        with _quiet():
            self._study = optuna.create_study(sampler=sampler, directions=directions)

    def _propose(self) -> Sequence[float]:
        with _quiet():
            trial = self._study.ask(fixed_distributions=self._distributions)
        self._trials[self.next_number] = trial
        return [_unit(d, trial.params[d.name]) if d.choices else float(trial.params[d.name]) for d in self.dimensions]

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        values = self._values(outcome) if isinstance(outcome, Result) else None
        with _quiet():
            if own:
                trial = self._trials.pop(proposal.number)
                self._study.tell(trial, values, state=TrialState.FAIL if values is None else None)
            elif values is not None:
                point = zip(self.dimensions, proposal.vector, strict=True)
                params = {d.name: d.value(u) if d.choices else u for d, u in point}
                trial = optuna.trial.create_trial(params=params, distributions=self._distributions, values=values)
                self._study.add_trial(trial)

    def _values(self, result: Result) -> list[float]:
        if self._scalarize:
            return [self._scalarize(self.objectives, result.values)]
        return [objective.normalise(value) for objective, value in zip(self.objectives, result.values, strict=True)]


class Tpe(OptunaOptimizer):
    """The tree-structured Parzen estimator (Bergstra et al. 2011; multivariate: Falkner et al. 2018).

    Points being scored count as bad ones (constant liar), so that parallel proposals keep apart. Several objectives are
    searched as a front (Ozaki et al. 2022).

    Args:
        dimensions, objectives, seed, first_number: as in `Optimizer`.
        startup: points drawn at random before the model is used; starting points count.
        candidates: draws among which the model chooses each proposal.
    """

    def __init__(
        self,
        dimensions: Sequence[Dimension],
        objectives: Sequence[Objective],
        *,
        seed: int,
        first_number: int = 0,
        startup: int = 10,
        candidates: int = 24,
    ) -> None:
        for name, value, least in (("startup", startup, 0), ("candidates", candidates, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise UsageError(f"optimizer tpe: {name} {value!r} must be a whole number >= {least}")
        with _quiet():
            sampler = optuna.samplers.TPESampler(
                n_startup_trials=startup,
                n_ei_candidates=candidates,
                seed=int(np.random.SeedSequence(seed).generate_state(1)[0]),  # it takes 32 bits only
                multivariate=True,
                constant_liar=True,
            )
        super().__init__(dimensions, objectives, seed=seed, first_number=first_number, sampler=sampler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing studies and trials, and leave its logger as it was."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _unit(dimension: Dimension, choice: Any) -> float:
    unit = dimension.unit(choice)
    assert unit is not None
    return unit
