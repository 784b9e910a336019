"""What the optimizers share: the bookkeeping of asks and tells, and a state that is the record of both.

The state of an optimizer is the list of what happened to it, in order; loading it lets all that happen once more to a
fresh object and checks that the same points come out. That is exact for any optimizer whose proposals are a function of
the order of events, and costs what the asks cost: milliseconds each, or little more than nothing for an optimizer that
can take the record's word for most of them (`_retrace`). A snapshot is quicker still: what an optimizer has made of
the record (`_save`, `_load`), for an owner that has the record itself. `ask(n)` is `ask(1)` n times, and an ask that
returns nothing leaves no trace, so neither the sizes of asks nor the empty ones need to be recorded. Linear algebra
runs on one thread, so that the number of processors has no say.

A result that a race cut short is an estimate from few items, of a point known to be worse than some complete one. So
that luck on these items fools no optimizer, its values are lowered before `_learn` sees them (`_lower`). This file
knows nothing about how points are found.
"""

import math
from abc import abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.errors import WorkError
from evomerge.optimizers.base import Event, Failure, Optimizer, Problem, Proposal, Result
from evomerge.threads import one_thread

STATE_VERSION = 2


@dataclass(frozen=True, slots=True)
class _Asked:
    """A proposal; there may be very many, so its point is an array."""

    number: int
    vector: "array[float]"

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return {"ask": self.number, "vector": list(self.vector)}


@dataclass(frozen=True, slots=True)
class _Told:
    """What became of a proposal; `vector` is that of a foreign one."""

    number: int
    outcome: Result | Failure
    vector: tuple[float, ...] | None

    def plain(self) -> dict[str, Any]:
        """Return it as JSON data."""
        plain = {"tell": self.number, **_plain(self.outcome)}
        return plain if self.vector is None else {**plain, "vector": list(self.vector)}


class ReplayedOptimizer(Optimizer):
    """Base of optimizers that need to write two methods only: `_propose` and `_learn`.

    Numbers below `first_number` belong to foreign points (baselines); those from there on are the optimizer's own.
    `tell` raises `ValueError` for a number told twice, for one of its own range that it never asked for or with another
    vector, and for results that do not fit the objectives or are not finite (that would be a `Failure`).
    """

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.first_number = problem.first_number
        self._waiting: dict[int, Proposal] = {}
        self._told: set[int] = set()
        self._events: list[_Asked | _Told] = []
        self._complete: list[tuple[float, ...]] = []  # of results that were not cut short, the front

    @abstractmethod
    def _propose(self) -> Sequence[float] | None:
        """Return the vector of proposal `self.next_number`, or None, with nothing changed, to wait for results."""

    @abstractmethod
    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        """Take in what became of a proposal; `own` is false for a foreign point."""

    def _retrace(self, vector: tuple[float, ...]) -> bool:
        """Go where `_propose` would go if it returned `vector`, without the search for it; False: that cannot be done.

        For optimizers whose asks take long and whose `_propose` is a function of what they were told, their open
        proposals and `self.next_number`, so that nothing is missing later on.
        """
        return False

    def _save(self) -> dict[str, Any] | None:
        """Return what the next proposals depend on and cannot be read off the past; None: there are no snapshots."""
        return None

    def _recall(self, proposal: Proposal, outcome: Result | Failure | None) -> None:
        """Take note of an ask (no outcome) or a tell of the past, before `_load`; what `_save` holds needs no note."""

    def _load(self, state: Mapping[str, Any]) -> None:
        """Go where `_save` was, after every ask and tell of the past was recalled."""
        raise NotImplementedError

    def ask(self, n: int = 1) -> list[Proposal]:
        """Return up to `n` new proposals; fewer or none means that results are needed first."""
        proposals: list[Proposal] = []
        with one_thread():
            while len(proposals) < n and (vector := self._propose()) is not None:
                proposals.append(self._asked(vector))
        return proposals

    def replay(self, asked: Proposal) -> None:
        """Make a recorded proposal once more; `WorkError` where another point comes out (a library has changed since).

        An optimizer that can retrace is asked in truth for its first, second, fourth, eighth, ... proposal only.
        """
        count = self.next_number - self.first_number + 1
        if asked.number == self.next_number and count & (count - 1) and self._retrace(asked.vector):
            self._asked(asked.vector)
        elif self.ask(1) != [asked]:
            raise WorkError(
                f"optimizer {type(self).__name__}: proposal {asked.number} comes out different on replay; "
                "resume with the library versions that the run began with"
            )

    def tell(self, proposal: Proposal, outcome: Result | Failure) -> None:
        """Take in what became of a proposal, its own or a foreign one (a baseline)."""
        number, own = proposal.number, proposal.number >= self.first_number
        if number in self._told:
            raise ValueError(f"proposal {number} was told before")
        if own and self._waiting.get(number) != proposal:
            raise ValueError(f"proposal {number} was never asked for")
        if len(proposal.vector) != len(self.dimensions) or not all(0.0 <= u <= 1.0 for u in proposal.vector):
            raise ValueError(f"proposal {number} is no point of the {len(self.dimensions)}-dimensional unit cube")
        if isinstance(outcome, Result):
            self._check(number, outcome)
            if not self.wants_items:
                outcome = replace(outcome, by_item=())
        self._waiting.pop(number, None)
        self._told.add(number)
        self._events.append(_Told(number, outcome, None if own else proposal.vector))
        outcome = self._believed(outcome)
        with one_thread():
            self._learn(proposal, outcome, own=own)

    def state_dict(self) -> dict[str, Any]:
        """Return the record of all asks and tells, as plain JSON data."""
        return {**self._identity(), "events": [event.plain() for event in self._events]}

    def snapshot(self) -> dict[str, Any] | None:
        """Return what `restore` needs besides the record, None for an optimizer that can only be replayed."""
        state = self._save()
        if state is None:
            return None
        own = sum(isinstance(event, _Asked) or event.vector is None for event in self._events)
        return {**self._identity(), "events": own, "state": state}

    def restore(self, state: Mapping[str, Any], past: Iterable[Event]) -> None:
        """Take over a snapshot; `ValueError` where it is another optimizer's or not of this past."""
        if self.next_number != self.first_number:
            raise ValueError("a snapshot can only be restored in a fresh optimizer")
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise ValueError(f"the snapshot has {key} {state.get(key)!r}, this optimizer {value!r}")
        count = 0
        for event in past:
            count += 1
            if isinstance(event, Proposal):
                self.next_number = event.number + 1
                self._note(event)
                self._recall(event, None)
            else:
                proposal, outcome = event
                del self._waiting[proposal.number]
                self._told.add(proposal.number)
                self._events.append(_Told(proposal.number, outcome, None))
                self._recall(proposal, self._believed(outcome))
        if count != state["events"]:
            raise ValueError(f"the snapshot is of {state['events']} asks and tells, not of {count}")
        with one_thread():
            self._load(state["state"])

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Replay a state that `state_dict` returned.

        Raises `ValueError` where this object is not fresh or the state is another optimizer's, and `WorkError` where a
        replayed proposal comes out different (a library has changed since).
        """
        if self._events:
            raise ValueError("a state can only be loaded into a fresh optimizer")
        for key, value in self._identity().items():
            if state.get(key) != value:
                raise ValueError(f"the state has {key} {state.get(key)!r}, this optimizer {value!r}")
        for event in state["events"]:
            if "ask" in event:
                self.replay(Proposal(event["ask"], tuple(event["vector"])))
            else:
                number = event["tell"]
                proposal = Proposal(number, tuple(event["vector"])) if "vector" in event else self._waiting[number]
                self.tell(proposal, _outcome(event))

    def _believed(self, outcome: Result | Failure) -> Result | Failure:
        """Return an outcome as it is to be learnt; what is complete counts for those that are cut short later."""
        if isinstance(outcome, Failure):
            return outcome
        if outcome.cut_short:
            return self._lower(outcome)
        if not any(_covers(known, outcome.values) for known in self._complete):
            self._complete = [known for known in self._complete if not _covers(outcome.values, known)]
            self._complete.append(outcome.values)
        return outcome

    def _lower(self, result: Result) -> Result:
        """Return a cut-short result as it is to be learnt: no better in every objective than some complete one.

        Optimizers of one joined score do this to that score instead.
        """
        return replace(result, values=lowered(result.values, self._complete))

    def _asked(self, vector: Sequence[float]) -> Proposal:
        """Number a new proposal and write it down."""
        proposal = self._number(vector)
        self._note(proposal)
        return proposal

    def _note(self, proposal: Proposal) -> None:
        self._waiting[proposal.number] = proposal
        self._events.append(_Asked(proposal.number, array("d", proposal.vector)))

    def _identity(self) -> dict[str, Any]:
        return {
            "version": STATE_VERSION,
            "optimizer": type(self).__name__,
            "seed": self.seed,
            "first_number": self.first_number,
            "dimensions": [dimension.name for dimension in self.dimensions],
            "objectives": [objective.name for objective in self.objectives],
        }

    def _check(self, number: int, result: Result) -> None:
        if len(result.values) != len(self.objectives):
            raise ValueError(f"proposal {number}: {len(result.values)} values for {len(self.objectives)} objectives")
        if self.wants_items and len(result.by_item) != len(self.objectives):
            raise ValueError(f"proposal {number}: {type(self).__name__} needs the scores of single items")
        if not all(math.isfinite(value) for value in result.values):
            raise ValueError(f"proposal {number}: values {result.values} are not finite; tell a Failure instead")


def lowered(values: Sequence[float], complete: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return values lowered, by as little as possible in sum, until some complete result is as good in every objective.

    Without a complete result they are returned as they are.
    """
    below = [tuple(map(min, values, known)) for known in complete]
    return max(below, key=sum, default=tuple(values))


def _covers(one: Sequence[float], other: Sequence[float]) -> bool:
    """Say whether values are as good as others in every objective."""
    return all(a >= b for a, b in zip(one, other, strict=True))


def _plain(outcome: Result | Failure) -> dict[str, Any]:
    if isinstance(outcome, Failure):
        return {"failure": outcome.kind, "message": outcome.message}
    plain: dict[str, Any] = {
        "values": [float(value) for value in outcome.values],
        "errors": [float(error) for error in outcome.errors],
        "items": [int(items) for items in outcome.items],
        "cut_short": bool(outcome.cut_short),
    }
    if outcome.by_item:
        plain["by_item"] = [
            [[int(i) for i in scores], [float(s) for s in scores.values()]] for scores in outcome.by_item
        ]
    return plain


def _outcome(event: Mapping[str, Any]) -> Result | Failure:
    if "failure" in event:
        return Failure(event["failure"], event["message"])
    by_item = tuple(dict(zip(*pair, strict=True)) for pair in event.get("by_item", ()))
    return Result(tuple(event["values"]), tuple(event["errors"]), tuple(event["items"]), event["cut_short"], by_item)
