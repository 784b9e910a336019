"""What a ledger says: the trials of a run with their scores, as plain data.

Events, after the first (`begin`: versions, space, hashes of items and prompts, batch shape):

    ask     number, kind, name, recipe, vector      a baseline or a proposal is about to be scored
    tell    number, split, scores, fingerprint, seconds   its scores on a split, with the score of every item and what
                                            is wrong with its answer; those on `search` the optimizer is told
    fail    number, kind, message                   it could not be scored
    report  opening, numbers                        the report split is opened, for these trials

This file only reads: it knows nothing about how a search goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.evaluation.health import Gain, Health, gain, health_of_marks, mark_of
from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure, Proposal, Result
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_with_error


@dataclass(frozen=True)
class TaskScore:
    """A model's score on one task and split.

    Attributes:
        mean, error: over the items, with its standard error.
        tokens: how many were generated in total.
        by_item: the score of each item, in the order of the run's items: a string of digits where all are 0 or 1, else
            numbers of six significant digits.
        marks: for each item a hexadecimal digit that says what is wrong with the answer (`evaluation/health.py`).
    """

    mean: float
    error: float
    tokens: int
    by_item: str | tuple[float, ...]
    marks: str

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "TaskScore":
        """Summarise outcomes."""
        outcomes = list(outcomes)
        scores = [outcome.score for outcome in outcomes]
        by_item: str | tuple[float, ...]
        if all(score in (0.0, 1.0) for score in scores):
            by_item = "".join("1" if score else "0" for score in scores)
        else:
            by_item = tuple(float(f"{score:.6g}") for score in scores)
        mean, error = mean_with_error(scores)
        tokens = sum(outcome.tokens for outcome in outcomes)
        return cls(mean, error, tokens, by_item, "".join(f"{mark_of(outcome):x}" for outcome in outcomes))

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "TaskScore":
        """Build from plain data, as in a tell event."""
        by_item = data["by_item"]
        return cls(**{**data, "by_item": by_item if isinstance(by_item, str) else tuple(by_item)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return vars(self) | {"by_item": self.by_item if isinstance(self.by_item, str) else list(self.by_item)}

    @property
    def items(self) -> int:
        """How many items."""
        return len(self.by_item)

    @property
    def scores(self) -> list[float]:
        """The score of each item, to six significant digits."""
        return [float(score) for score in self.by_item]

    @property
    def health(self) -> Health:
        """How sound the answers are."""
        return health_of_marks(int(mark, 16) for mark in self.marks)

    def gain_over(self, parent: "TaskScore") -> Gain:
        """Return what is gained over a parent, and how much of it is health, on the items that both have.

        Both are scored on the first of the same items; where one has fewer, the others are left out.
        """
        mine, parents = (
            zip(score.scores, (int(mark, 16) for mark in score.marks), strict=True) for score in (self, parent)
        )
        return gain(zip(mine, parents, strict=False))


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
        )

    def ask_event(self) -> dict[str, Any]:
        """The event that announces this trial."""
        return {
            "event": "ask",
            "number": self.number,
            "kind": self.kind,
            "name": self.name,
            "recipe": self.recipe.to_dict(),
            "vector": None if self.vector is None else list(self.vector),
        }


@dataclass
class Record:
    """The state of a run, rebuilt from its events by `take`."""

    begin: Mapping[str, Any] | None = None
    trials: dict[int, Trial] = field(default_factory=dict)
    #: ask and tell of candidates, in the order they happened: ("ask" | "tell", number)
    order: list[tuple[str, int]] = field(default_factory=list)
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
                )
                self.order.append(("ask", event["number"]))
            case "tell":
                trial = self.trials[event["number"]]
                trial.scores[event["split"]] = {task: TaskScore.from_dict(s) for task, s in event["scores"].items()}
                trial.fingerprint = event["fingerprint"]
                if event["split"] == "search":
                    trial.seconds = event["seconds"]
                    self.order.append(("tell", event["number"]))
            case "fail":
                self.trials[event["number"]].failure = Failure(event["kind"], event["message"])
                self.order.append(("tell", event["number"]))
            case "report":
                self.openings = event["opening"]
                self.reported = tuple(event["numbers"])

    def of_kind(self, *kinds: str) -> list[Trial]:
        """Return the trials of some kinds, by number."""
        return [trial for _, trial in sorted(self.trials.items()) if trial.kind in kinds]

    @property
    def candidates(self) -> list[Trial]:
        """The trials that an optimizer proposed and that have a score."""
        return [trial for trial in self.of_kind("candidate") if "search" in trial.scores]
