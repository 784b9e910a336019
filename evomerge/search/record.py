"""What a ledger says: the trials of a run with their scores, as plain data.

Events, after the first (`begin`: versions, space, hashes of items and prompts, batch shape):

    stage   stage                           the search goes on in the next, finer space
    ask     number, kind, name, recipe, vector, stage     a baseline or a proposal is about to be scored
    tell    number, split, scores, fingerprint, seconds, beaten_by   its scores on a split, with the score of every item
                                            and what is wrong with its answer; those on `search` the optimizer is told;
                                            `beaten_by`: the trial that was found better before all items were scored
    fail    number, kind, message                   it could not be scored
    report  opening, numbers                        the report split is opened, for these trials

This file only reads: it knows nothing about how a search goes on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.health import Gain, Health, gain, health_of_marks, mark_of
from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure, Proposal, Result
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_with_error


@dataclass(frozen=True)
class TaskScore:
    """A model's score on one task and split.

    Attributes:
        mean, error: over the items, with its standard error; an estimate for all of them where a race stopped early.
        tokens: how many were generated in total.
        by_item: the score of each item, in the order of the run's items: a string of digits where all are 0 or 1, else
            numbers of six significant digits.
        marks: for each item a hexadecimal digit that says what is wrong with the answer (`evaluation/health.py`).
        places: which of the run's items were scored, counted from 0, ascending; None: all.
    """

    mean: float
    error: float
    tokens: int
    by_item: str | tuple[float, ...]
    marks: str
    places: tuple[int, ...] | None = None

    @classmethod
    def of(
        cls,
        outcomes: Iterable[Outcome],
        *,
        places: Sequence[int] | None = None,
        estimate: tuple[float, float] | None = None,
    ) -> "TaskScore":
        """Summarise outcomes: those of all items, or those at some places with an estimate (mean, error) for all."""
        outcomes = list(outcomes)
        scores = [outcome.score for outcome in outcomes]
        by_item: str | tuple[float, ...]
        if all(score in (0.0, 1.0) for score in scores):
            by_item = "".join("1" if score else "0" for score in scores)
        else:
            by_item = tuple(float(f"{score:.6g}") for score in scores)
        mean, error = estimate or mean_with_error(scores)
        marks = "".join(f"{mark_of(outcome):x}" for outcome in outcomes)
        tokens = sum(outcome.tokens for outcome in outcomes)
        return cls(mean, error, tokens, by_item, marks, None if places is None else tuple(places))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TaskScore":
        """Build from plain data, as in a tell event."""
        by_item, places = data["by_item"], data.get("places")
        return cls(
            **{
                **data,
                "by_item": by_item if isinstance(by_item, str) else tuple(by_item),
                "places": None if places is None else tuple(places),
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain = vars(self) | {"by_item": self.by_item if isinstance(self.by_item, str) else list(self.by_item)}
        if self.places is None:
            del plain["places"]
        else:
            plain["places"] = list(self.places)
        return plain

    @property
    def items(self) -> int:
        """How many items."""
        return len(self.by_item)

    @property
    def scores(self) -> list[float]:
        """The score of each item, to six significant digits."""
        return [float(score) for score in self.by_item]

    @property
    def array(self) -> NDArray[np.float64]:
        """The score of each item as an array; those written as digits without a detour over each single one."""
        if isinstance(self.by_item, str):
            return np.frombuffer(self.by_item.encode(), dtype=np.uint8).astype(np.float64) - ord("0")
        return np.array(self.by_item, dtype=np.float64)

    @property
    def by_place(self) -> dict[int, float]:
        """The score of each item by its place among the run's items."""
        return dict(zip(range(self.items) if self.places is None else self.places, self.scores, strict=True))

    @property
    def health(self) -> Health:
        """How sound the answers are."""
        return health_of_marks(int(mark, 16) for mark in self.marks)

    def gain_over(self, parent: "TaskScore") -> Gain:
        """Return what is gained over a parent, and how much of it is health, on the items that both have.

        Items that only one of them was scored on are left out.
        """
        mine, parents = self._marked, parent._marked
        both = [place for place in mine if place in parents]
        return gain([(mine[place], parents[place]) for place in both])

    @property
    def _marked(self) -> dict[int, tuple[float, int]]:
        marks = (int(mark, 16) for mark in self.marks)
        return {place: (score, mark) for (place, score), mark in zip(self.by_place.items(), marks, strict=True)}


Scores = dict[str, TaskScore]


@dataclass
class Trial:
    """A baseline or candidate of a run and what is known of it."""

    number: int
    kind: str
    name: str
    recipe: Recipe
    vector: tuple[float, ...] | None
    scores: dict[Split, Scores] = field(default_factory=dict)
    fingerprint: str | None = None
    failure: Failure | None = None
    seconds: float = 0.0
    stage: int = 0
    beaten_by: int | None = None

    @property
    def proposal(self) -> Proposal | None:
        """The trial as its optimizer knows it, None for a baseline outside the space."""
        return None if self.vector is None else Proposal(self.number, self.vector)

    @property
    def outcome(self) -> Result | Failure | None:
        """What an optimizer is told, None while the trial is being scored."""
        if self.failure is not None or "search" not in self.scores:
            return self.failure
        scores = self.scores["search"].values()
        return Result(
            values=tuple(score.mean for score in scores),
            errors=tuple(score.error for score in scores),
            items=tuple(score.items for score in scores),
            cut_short=self.beaten_by is not None,
            by_item=tuple(score.by_place for score in scores),
        )

    @property
    def complete(self) -> bool:
        """Say whether it has a score on every item of the search split."""
        return "search" in self.scores and self.beaten_by is None

    def ask_event(self) -> dict[str, Any]:
        """The event that announces this trial."""
        return {
            "event": "ask",
            "number": self.number,
            "kind": self.kind,
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "vector": None if self.vector is None else list(self.vector),
            "stage": self.stage,
        }


@dataclass
class Record:
    """The state of a run, rebuilt from its events by `take`."""

    begin: Mapping[str, Any] | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    #: ask and tell of candidates, in the order they happened: ("ask" | "tell", number)
    order: list[tuple[str, int]] = field(default_factory=list)
    stage: int = 0
    openings: int = 0
    reported: tuple[int, ...] = ()

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> "Record":
        """Rebuild the state from events in order."""
        record = cls()
        for event in events:
            record.take(event)
        return record

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in one more event."""
        match event["event"]:
            case "begin":
                self.begin = event
            case "ask":
                vector = event["vector"]
                self.trials[event["number"]] = Trial(
                    number=event["number"],
                    kind=event["kind"],
                    name=event["name"],
                    recipe=Recipe.from_dict(event["recipe"]),
                    vector=None if vector is None else tuple(vector),
                    stage=event["stage"],
                )
                self.order.append(("ask", event["number"]))
            case "tell":
                trial = self.trials[event["number"]]
                trial.scores[event["split"]] = {task: TaskScore.from_dict(s) for task, s in event["scores"].items()}
                trial.fingerprint = event["fingerprint"]
                if event["split"] == "search":
                    trial.beaten_by = event.get("beaten_by")
                    trial.seconds = event["seconds"]
                    self.order.append(("tell", event["number"]))
            case "fail":
                self.trials[event["number"]].failure = Failure(event["kind"], event["message"])
                self.order.append(("tell", event["number"]))
            case "stage":
                self.stage = event["stage"]
            case "report":
                self.openings = event["opening"]
                self.reported = tuple(event["numbers"])

    def of_kind(self, *kinds: str) -> list[Trial]:
        """Return the trials of some kinds (none named: of all), by number."""
        return [trial for _, trial in sorted(self.trials.items()) if not kinds or trial.kind in kinds]

    def complete_before(self, number: int) -> list[Trial]:
        """Return the trials that had a score on every item of the search split when trial `number` was asked for."""
        order = self.order[: self.order.index(("ask", number))]
        return [self.trials[told] for what, told in order if what == "tell" and self.trials[told].complete]

    @property
    def candidates(self) -> list[Trial]:
        """The trials that an optimizer proposed and that have a score."""
        return [trial for trial in self.of_kind("candidate") if "search" in trial.scores]
