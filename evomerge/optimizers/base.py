"""What every optimizer is: a thing that is asked for points of the unit cube and told what became of them.

An optimizer knows dimensions and scores, never models. The search loop calls it like this:

1. it is built with a `Problem`: the dimensions of the space, the objectives and a seed;
2. `tell` is called for the baselines that lie in the space: points that it never asked for, its starting points;
3. `ask(n)` whenever workers are idle; fewer than n proposals (or none) means: wait for results;
4. `tell` for each proposal once, in any order, with a `Result` or a `Failure`;
5. `state_dict` may be called between any two calls; `load_state_dict` on a fresh object of the same kind and problem
   gives one that will propose the same points. `snapshot` and `restore` do the same from less data, for an owner that
   keeps a record of all asks and tells anyway.

The next proposals are a function of the order of asks and tells alone: no clock, no global random state.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.recipes import Dimension


@dataclass(frozen=True)
class Objective:
    """One thing to be made large.

    Attributes:
        name: the task's name.
        low: score of the base (the zero of the normalised scale), None until it is known.
        high: score of the best expert on this task (the one of the normalised scale), None until it is known.
        weight: importance in a scalarization.
        floor: a constraint: candidates whose score lies below it do not count. None: there is none.
    """

    name: str
    low: float | None = None
    high: float | None = None
    weight: float = 1.0
    floor: float | None = None

    def normalise(self, value: float) -> float:
        """Map a score to (value - low) / (high - low); where the two are unknown or equal, return it as it is."""
        if self.low is None or self.high is None or self.high <= self.low:
            return value
        return (value - self.low) / (self.high - self.low)

    def shortfall(self, value: float) -> float:
        """Return how far a score lies below the floor, on the normalised scale; 0 where it does not."""
        return 0.0 if self.floor is None else max(self.normalise(self.floor) - self.normalise(value), 0.0)


@dataclass(frozen=True)
class Problem:
    """What is to be optimised.

    Attributes:
        dimensions: the coordinates of the space, at least one.
        objectives: what to maximise, at least one; with `low` and `high` where the baselines are known.
        seed: seed of the optimizer's own generators, >= 0.
        first_number: the number of the first proposal (the baselines took those before).
    """

    dimensions: Sequence[Dimension]
    objectives: Sequence[Objective]
    seed: int
    first_number: int = 0

    def __post_init__(self) -> None:
        """Raise `ValueError` where there is nothing to optimise, or for a seed below zero."""
        if not self.dimensions or not self.objectives:
            raise ValueError("an optimizer needs at least one dimension and one objective")
        if self.seed < 0:
            raise ValueError(f"seed {self.seed} must be a whole number >= 0")


@dataclass(frozen=True)
class Proposal:
    """A point to be scored. `number` is unique in a run; `vector` has one coordinate in [0, 1] a dimension."""

    number: int
    vector: tuple[float, ...]


@dataclass(frozen=True)
class Result:
    """What became of a proposal.

    Attributes:
        values: one score an objective, larger is better: estimates of the means over all items.
        errors: the standard error of each.
        items: how many items of each objective were scored.
        cut_short: a race stopped it before all its items were scored, some complete result being clearly better.
        by_item: for each objective the scores of the items that were scored, item's place -> score. Empty unless the
            optimizer says that it `wants_items`.
    """

    values: tuple[float, ...]
    errors: tuple[float, ...]
    items: tuple[int, ...]
    cut_short: bool = False
    by_item: tuple[Mapping[int, float], ...] = ()


@dataclass(frozen=True)
class Failure:
    """A proposal that got no score. A class of its own, never a number. `kind` is a short word: nan, memory, error."""

    kind: str
    message: str


#: An ask, or a tell with what became of the proposal.
Event = Proposal | tuple[Proposal, Result | Failure]


class Optimizer(ABC):
    """Base class of all optimizers; `problem` says what is to be optimised."""

    #: More than one objective is optimised as a front; others see one number, by the run's scalarisation.
    multi_objective = False
    #: Results must hold the scores of single items.
    wants_items = False

    def __init__(self, problem: Problem) -> None:
        self.dimensions = tuple(problem.dimensions)
        self.objectives = tuple(problem.objectives)
        self.seed = problem.seed
        self.next_number = problem.first_number

    @abstractmethod
    def ask(self, n: int = 1) -> list[Proposal]:
        """Return up to `n` new proposals; fewer or none means that results are needed first."""

    @abstractmethod
    def replay(self, asked: Proposal) -> None:
        """Make a proposal of a record once more, in place of `ask(1)`; `WorkError` where another point comes out."""

    @abstractmethod
    def tell(self, proposal: Proposal, outcome: Result | Failure) -> None:
        """Take in what became of a proposal, its own or a foreign one (a baseline)."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Return everything the future proposals depend on, as plain JSON data."""

    @abstractmethod
    def snapshot(self) -> dict[str, Any] | None:
        """Return plain data and arrays from which `restore` goes on sooner than all asks and tells would be repeated.

        It has a key `events`: how many asks and tells of its own proposals went before. None: there is no such data.
        """

    @abstractmethod
    def restore(self, state: Mapping[str, Any], past: Iterable[Event]) -> None:
        """Take over a snapshot in a fresh object that was told the same foreign points; it will propose the same.

        Args:
            state: what `snapshot` returned.
            past: the asks and tells of its own proposals that went before, in order.
        """

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a state that `state_dict` returned."""

    def describe(self, budget: int | None) -> list[str]:
        """Return what a person should know before the search starts, a line each; `budget` counts candidates."""
        return []

    def _number(self, vector: Sequence[float]) -> Proposal:
        """Wrap a vector as the next proposal, clipped to the cube (rounding may leave it by an ulp)."""
        proposal = Proposal(self.next_number, tuple(min(max(float(u), 0.0), 1.0) for u in vector))
        self.next_number += 1
        return proposal
