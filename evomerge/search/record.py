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

import json
from array import array
from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.evaluation.health import Gain, Health, gain, health_of_marks, mark_of
from evomerge.evaluation.types import Outcome, Split
from evomerge.optimizers.base import Failure, Proposal, Result
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_with_error


@dataclass(frozen=True, slots=True)
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
            data["mean"],
            data["error"],
            data["tokens"],
            by_item if isinstance(by_item, str) else tuple(by_item),
            data["marks"],
            None if places is None else tuple(places),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        plain: dict[str, Any] = {
            "mean": self.mean,
            "error": self.error,
            "tokens": self.tokens,
            "by_item": self.by_item if isinstance(self.by_item, str) else list(self.by_item),
            "marks": self.marks,
        }
        if self.places is not None:
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


class Trial:
    """A baseline or candidate of a run and what is known of it.

    There may be a hundred thousand of them, so what is large is kept as it is written: the recipe as text (read where
    it is wanted), the vector as an array.
    """

    __slots__ = (
        "_packed",
        "_recipe",
        "_vector",
        "beaten_by",
        "failure",
        "fingerprint",
        "kind",
        "name",
        "number",
        "scores",
        "seconds",
        "stage",
    )

    def __init__(
        self,
        number: int,
        kind: str,
        name: str,
        recipe: Recipe | bytes,
        vector: Sequence[float] | None,
        *,
        stage: int = 0,
    ) -> None:
        self.number, self.kind, self.name, self.stage = number, kind, name, stage
        self._recipe = recipe if isinstance(recipe, Recipe) else None
        self._packed = b"" if isinstance(recipe, Recipe) else recipe
        self._vector = None if vector is None else array("d", vector)
        self.scores: dict[Split, Scores] = {}
        self.fingerprint: str | None = None
        self.failure: Failure | None = None
        self.seconds = 0.0
        self.beaten_by: int | None = None

    @property
    def recipe(self) -> Recipe:
        """What was built."""
        return self._recipe or _unpacked(self._packed)

    @property
    def vector(self) -> tuple[float, ...] | None:
        """Where it lies in its stage's space, None for a baseline outside."""
        return None if self._vector is None else tuple(self._vector)

    @property
    def proposal(self) -> Proposal | None:
        """The trial as its optimizer knows it, None for a baseline outside the space."""
        return None if self._vector is None else Proposal(self.number, tuple(self._vector))

    @property
    def outcome(self) -> Result | Failure | None:
        """What an optimizer is told, without the scores of single items; None while the trial is being scored."""
        if self.failure is not None or "search" not in self.scores:
            return self.failure
        scores = self.scores["search"].values()
        return Result(
            values=tuple(score.mean for score in scores),
            errors=tuple(score.error for score in scores),
            items=tuple(score.items for score in scores),
            cut_short=self.beaten_by is not None,
        )

    @property
    def outcome_by_item(self) -> Result | Failure | None:
        """What an optimizer is told that wants the scores of single items."""
        outcome = self.outcome
        if not isinstance(outcome, Result):
            return outcome
        return replace(outcome, by_item=tuple(score.by_place for score in self.scores["search"].values()))

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
            "vector": None if self._vector is None else list(self._vector),
            "stage": self.stage,
        }


@lru_cache(maxsize=256)
def _unpacked(packed: bytes) -> Recipe:
    return Recipe.from_dict(json.loads(packed))


@dataclass
class Totals:
    """Sums over all trials, kept as events come in.

    Attributes:
        asked, told: kind -> how many were announced, and how many of them have a result on the search split.
        models, items: split -> how many models were scored on it, and how many items in all.
        seconds: of scoring on the search split.
        failures: kind of failure -> how many.
    """

    asked: Counter[str] = field(default_factory=Counter)
    told: Counter[str] = field(default_factory=Counter)
    models: Counter[Split] = field(default_factory=Counter)
    items: Counter[Split] = field(default_factory=Counter)
    seconds: float = 0.0
    failures: Counter[str] = field(default_factory=Counter)


class Record:
    """The state of a run, rebuilt from its events by `take`.

    Attributes:
        begin: the first event.
        trials: by number.
        order: ask and tell of trials, in the order they happened: ("ask" | "tell", number).
        results: what was found, in the order it was: (number, split), or (number, None) for a failure.
        totals: sums over all trials.
        stage, openings, reported: the last events of these kinds.
    """

    def __init__(self) -> None:
        self.begin: Mapping[str, Any] | None = None
        self.trials: dict[int, Trial] = {}
        self.order: list[tuple[str, int]] = []
        self.results: list[tuple[int, Split | None]] = []
        self.totals = Totals()
        self.stage = 0
        self.openings = 0
        self.reported: tuple[int, ...] = ()
        self._by_kind: dict[str, list[Trial]] = {}
        self._complete: list[Trial] = []  # in the order they were told
        self._complete_at: list[int] = []  # how long `order` was then

    @classmethod
    def of(cls, events: Iterable[Mapping[str, Any]]) -> "Record":
        """Rebuild the state from events in order."""
        record = cls()
        for event in events:
            record.take(event)
        return record

    def take(self, event: Mapping[str, Any], *, recipe: Recipe | None = None) -> None:
        """Take in one more event.

        Args:
            event: plain data; the recipe in it may be JSON text (`ledger.parse`).
            recipe: the recipe in it, where it is at hand; it is kept until the trial is told.
        """
        match event["event"]:
            case "begin":
                self.begin = event
            case "ask":
                self._ask(event, recipe)
            case "tell":
                self._tell(event)
            case "fail":
                trial = self.trials[event["number"]]
                trial.failure = Failure(event["kind"], event["message"])
                self.totals.failures[event["kind"]] += 1
                self._told(trial, None)
            case "stage":
                self.stage = event["stage"]
            case "report":
                self.openings = event["opening"]
                self.reported = tuple(event["numbers"])

    def add(self, trial: Trial) -> None:
        """Add a trial of which no event tells."""
        self.trials[trial.number] = trial
        insort(self._by_kind.setdefault(trial.kind, []), trial, key=_number)

    def of_kind(self, *kinds: str) -> list[Trial]:
        """Return the trials of some kinds (none named: of all), by number."""
        if len(kinds) == 1:
            return list(self._by_kind.get(kinds[0], ()))
        found = [trial for kind in kinds or self._by_kind for trial in self._by_kind.get(kind, ())]
        return sorted(found, key=_number)

    def complete_before(self, number: int, *, since: int = 0) -> list[Trial]:
        """Return the trials that had a score on every item of the search split when trial `number` was asked for.

        In the order in which they were told, without the first `since`.
        """
        asked = len(self.order) - 1  # it is one of the latest
        while self.order[asked] != ("ask", number):
            asked -= 1
        return self._complete[since : bisect_right(self._complete_at, asked)]

    @property
    def candidates(self) -> list[Trial]:
        """The trials that an optimizer proposed and that have a score."""
        return [trial for trial in self.of_kind("candidate") if "search" in trial.scores]

    def _ask(self, event: Mapping[str, Any], recipe: Recipe | None) -> None:
        packed = event["recipe"]
        if not isinstance(packed, bytes):
            packed = json.dumps(packed, separators=(",", ":")).encode()
        trial = Trial(event["number"], event["kind"], event["name"], packed, event["vector"], stage=event["stage"])
        trial._recipe = recipe
        self.add(trial)
        self.totals.asked[trial.kind] += 1
        self.order.append(("ask", trial.number))

    def _tell(self, event: Mapping[str, Any]) -> None:
        trial, split = self.trials[event["number"]], event["split"]
        trial.scores[split] = {task: TaskScore.from_dict(s) for task, s in event["scores"].items()}
        trial.fingerprint = event["fingerprint"]
        self.totals.models[split] += 1
        self.totals.items[split] += sum(score.items for score in trial.scores[split].values())
        if split != "search":
            self.results.append((trial.number, split))
            return
        trial.beaten_by = event.get("beaten_by")
        trial.seconds = event["seconds"]
        self.totals.seconds += trial.seconds
        self._told(trial, split)
        if trial.complete:
            self._complete.append(trial)
            self._complete_at.append(len(self.order))

    def _told(self, trial: Trial, split: Split | None) -> None:
        if trial._packed:
            trial._recipe = None
        self.totals.told[trial.kind] += 1
        self.order.append(("tell", trial.number))
        self.results.append((trial.number, split))


def _number(trial: Trial) -> int:
    return trial.number
