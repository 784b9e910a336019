"""What a ledger says: the trials of a run with their scores, as plain data.

Events, after the first (`begin`: versions, space, hashes of items and prompts, batch shape):

    ask     number, kind, name, recipe, vector      a baseline or a proposal is about to be scored
    tell    number, split, scores, fingerprint, seconds   its scores on a split; those on `search` the optimizer is told
    fail    number, kind, message                   it could not be scored
    report  opening, numbers                        the report split is opened, for these trials

This file only reads: it knows nothing about how a search goes on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure, Proposal, Result
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_with_error


@dataclass(frozen=True)
class TaskScore:
    """A model's score on one task and split: mean and standard error over `items`; tokens and truncations in total."""

    mean: float
    error: float
    items: int
    tokens: int
    truncated: int

    @classmethod
    def of(cls, outcomes: Iterable[Outcome]) -> "TaskScore":
        """Summarise outcomes."""
        outcomes = list(outcomes)
        mean, error = mean_with_error([outcome.score for outcome in outcomes])
        tokens = sum(outcome.tokens for outcome in outcomes)
        return cls(mean, error, len(outcomes), tokens, sum(outcome.truncated for outcome in outcomes))


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
                trial.scores[event["split"]] = {task: TaskScore(**s) for task, s in event["scores"].items()}
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
