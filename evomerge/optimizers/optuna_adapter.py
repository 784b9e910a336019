"""Any Optuna sampler as an optimizer: one adapter around a study in memory.

Every dimension is a float in [0, 1], a choice is a category; proposals are asked of the sampler with the full space, so
that it sees them all at once. Floors are the study's constraints. Optuna's storage, logging and pruning are not used.

A dimension that the chosen method does not know is no part of the recipe: in a proposal it is always 0.5, so that equal
recipes are equal vectors. `conditional` leaves such dimensions out of the trials too, for samplers that can do with
spaces that differ from trial to trial. This file knows nothing about what a sampler does.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from evomerge.errors import UsageError
from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.replayed import ReplayedOptimizer, lowered
from evomerge.optimizers.scalarization import Scalarization
from evomerge.recipes import Dimension

#: Draws of a sampler that may give a known point before a uniformly random one is taken instead.
TRIES = 4
NEUTRAL = 0.5


class OptunaOptimizer(ReplayedOptimizer):
    """An Optuna sampler behind ask/tell.

    The study sees normalised scores: one value an objective, or one in all where a scalarization is given. Foreign
    points become finished trials of the study, points that are being scored are its running trials, failures its failed
    ones. A point that was proposed before is drawn again.

    Args:
        problem: what is to be optimised; its seed is not given to a sampler object.
        sampler: a fresh sampler object with a seed of its own, or a function of a seed that makes one. An object is
            asked once more for every proposal of a replay, so one that draws without a seed is not repeatable. With a
            function, each proposal has a new sampler of its own seed, so that it is a function of the study alone, and
            a replay can take the record's word for it: the choice for samplers that think long and remember nothing.
        scalarization: joins several objectives for a sampler that knows only one; None: the study has them all.
        conditional: leave out of a trial the dimensions that its method does not know.

    Asking raises `UsageError` where the sampler refuses the study, for instance its number of objectives.
    """

    multi_objective = True

    def __init__(
        self,
        problem: Problem,
        *,
        sampler: optuna.samplers.BaseSampler | Callable[[int], optuna.samplers.BaseSampler],
        scalarization: Scalarization | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(problem)
        self.multi_objective = scalarization is None
        self._scalarize = scalarization
        self._without_floors = [replace(objective, floor=None) for objective in self.objectives]
        self._conditional = conditional
        self._distributions: dict[str, BaseDistribution] = {
            d.name: CategoricalDistribution(d.choices) if d.choices else FloatDistribution(0.0, 1.0)
            for d in self.dimensions
        }
        self._method = next((i for i, d in enumerate(self.dimensions) if d.parameter == "method"), None)
        self._make: Callable[[int], optuna.samplers.BaseSampler] | None = None
        if not isinstance(sampler, optuna.samplers.BaseSampler):
            self._make = sampler
        self._seen: set[tuple[float, ...]] = set()
        self._flying: dict[int, optuna.Trial] = {}
        directions = ["maximize"] * (1 if scalarization else len(self.objectives))
        with quiet():
            first = sampler if isinstance(sampler, optuna.samplers.BaseSampler) else sampler(0)
            self._study = optuna.create_study(sampler=first, directions=directions)

    # ---- proposals -----------------------------------------------------------------------------------------------

    def _propose(self) -> Sequence[float]:
        with quiet():
            for attempt in range(TRIES):
                trial = self._draw(self._seed(attempt))
                vector = self._vector(trial.params)
                if vector not in self._seen:
                    break
                self._study.tell(trial, state=TrialState.FAIL)
            else:
                vector = self._canonical(np.random.default_rng(self._seed(TRIES)).random(len(self.dimensions)).tolist())
                trial = self._at(vector)
            if self._make:  # what `_retrace` does, so that the study is the same
                self._study.tell(trial, state=TrialState.FAIL)
                trial = self._at(vector)
        self._flying[self.next_number] = trial
        self._seen.add(vector)
        return vector

    def _retrace(self, vector: tuple[float, ...]) -> bool:
        if self._make is None:
            return False
        with quiet():
            self._flying[self.next_number] = self._at(vector)
        self._seen.add(vector)
        return True

    def _draw(self, seed: int) -> optuna.Trial:
        """Return a new trial as the sampler draws it."""
        if self._make:
            self._study.sampler = self._make(seed)
        try:
            return self._ask()
        except (ImportError, NotImplementedError, ValueError) as error:
            name = type(self._study.sampler).__name__
            raise UsageError(f"Optuna's {name} cannot search this: {str(error).strip().splitlines()[0]}") from error

    def _at(self, vector: Sequence[float]) -> optuna.Trial:
        """Return a new trial at a point, without asking the sampler for one."""
        self._study.enqueue_trial(self._params(vector))
        trial = self._ask()
        if isinstance(self._study.sampler, optuna.samplers.BaseGASampler):
            trial.relative_params  # noqa: B018  # makes the trial a member of a generation
        return trial

    def _ask(self) -> optuna.Trial:
        if not self._conditional or self._method is None:
            return self._study.ask(fixed_distributions=self._distributions)
        trial = self._study.ask()
        chooser = self.dimensions[self._method]
        method = trial.suggest_categorical(chooser.name, chooser.choices)
        for dimension in self.dimensions:
            if dimension is chooser or not _known(dimension, method):
                continue
            if dimension.choices:
                trial.suggest_categorical(dimension.name, dimension.choices)
            else:
                trial.suggest_float(dimension.name, 0.0, 1.0)
        return trial

    def _seed(self, attempt: int) -> int:
        """Return a seed for an attempt at the next proposal."""
        return bits32((self.seed, self.next_number, attempt))

    # ---- results -------------------------------------------------------------------------------------------------

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        self._seen.add(proposal.vector)
        if not own and isinstance(outcome, Failure):
            return
        with quiet():
            trial = self._flying.pop(proposal.number) if own else self._at(proposal.vector)
            if isinstance(outcome, Failure):
                self._study.tell(trial, state=TrialState.FAIL)
                return
            for name, value in self._constraints(outcome).items():
                trial.set_constraint(name, value)
            self._study.tell(trial, self._values(outcome))

    def _lower(self, result: Result) -> Result:
        """Lower the values of a front; a joined score is lowered where it is made."""
        return result if self._scalarize else super()._lower(result)

    def _values(self, result: Result) -> list[float]:
        if self._scalarize:
            joined = [self._scalarize(self._without_floors, result.values)]
            if result.cut_short:
                known = [[self._scalarize(self._without_floors, values)] for values in self._complete]
                return list(lowered(joined, known))
            return joined
        return [objective.normalise(value) for objective, value in zip(self.objectives, result.values, strict=True)]

    def _constraints(self, result: Result) -> dict[str, float]:
        """How far each score with a floor lies below it (above 0) or not (0 or below), on the normalised scale."""
        return {
            objective.name: objective.normalise(objective.floor) - objective.normalise(value)
            for objective, value in zip(self.objectives, result.values, strict=True)
            if objective.floor is not None
        }

    # ---- vectors and parameters ----------------------------------------------------------------------------------

    def _vector(self, params: dict[str, Any]) -> tuple[float, ...]:
        """Return the point of a trial, dimensions that its method does not know at 0.5."""
        units = [
            NEUTRAL if d.name not in params else _unit(d, params[d.name]) if d.choices else float(params[d.name])
            for d in self.dimensions
        ]
        return self._canonical(units)

    def _canonical(self, vector: Sequence[float]) -> tuple[float, ...]:
        method = self._method_at(vector)
        return tuple(u if _known(d, method) else NEUTRAL for d, u in zip(self.dimensions, vector, strict=True))

    def _params(self, vector: Sequence[float]) -> dict[str, Any]:
        """Return the parameters of a trial at a point."""
        method = self._method_at(vector)
        return {
            d.name: d.value(u) if d.choices else u
            for d, u in zip(self.dimensions, self._canonical(vector), strict=True)
            if not self._conditional or _known(d, method)
        }

    def _method_at(self, vector: Sequence[float]) -> Any:
        return None if self._method is None else self.dimensions[self._method].value(vector[self._method])


def _known(dimension: Dimension, method: Any) -> bool:
    """Whether the chosen method (None: there is no choice) knows the dimension."""
    return method is None or not dimension.methods or method in dimension.methods


def _unit(dimension: Dimension, choice: Any) -> float:
    unit = dimension.unit(choice)
    assert unit is not None
    return unit


def bits32(seed: int | Sequence[int]) -> int:
    """Return a seed of 32 bits: Optuna takes no more."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from announcing studies, trials and experiments, and leave its logger as it was."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
