"""The recipe for a preference: what a run's scores say of recipes that nobody scored.

When a search ends, quadratic surrogates are fitted to its scores, and the best points for all preferences are found
once and kept in `surrogates.json`, each with the hash of its recipe and with a promise: intervals for the scores that
the recipe will get on the selection split. A preference only looks one of these points up, so that the command line,
Python and a page without either give the same recipe.

A prediction is no score: a recipe has to be scored before anything is claimed of it. This file knows nothing about how
surrogates are fitted, nor about models.
"""

import json
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evomerge.errors import UsageError
from evomerge.optimizers.map import AmortisedFront, Answers, Surrogates, amortise, fit_surrogates
from evomerge.optimizers.map.amortised import preference_weights, scale_ends, worth
from evomerge.optimizers.map.surrogate import as_plain
from evomerge.optimizers.map.surrogates import MIN_POINTS
from evomerge.recipes import Dimension, Recipe, SearchSpace
from evomerge.recipes.recipe import Value
from evomerge.reporting.statistics import Interval
from evomerge.reporting.tables import are_shares, percent, plain, print_table
from evomerge.search.baselines import Baseline
from evomerge.search.directory import RunDirectory
from evomerge.search.record import Record
from evomerge.search.results import objectives
from evomerge.threads import one_thread

#: Points of a predicted front that a table shows.
SHOWN = 12
#: Trials that surrogates are fitted to: the latest, for the time grows with the third power of their number.
MOST_POINTS = 1000
#: Of the file of predictions; 2: with the front for all preferences.
PREDICTIONS_VERSION = 2


@dataclass(frozen=True)
class Predicted:
    """A recipe that was not scored, and what is expected of it.

    Attributes:
        hash: of the recipe.
        vector: where it lies in the space.
        scores: task -> predicted score with the ends of the promise: with 95 % probability the scores of all tasks on
            the selection split (`items`) lie between them. They lie about a little less than is predicted, since the
            best of many predictions flatters.
        items: task -> number of items of the selection split.
    """

    hash: str
    vector: tuple[float, ...]
    scores: Mapping[str, tuple[float, float, float]]
    items: Mapping[str, int]


@dataclass(frozen=True)
class Predictions:
    """What a run predicts.

    Attributes:
        surrogates: fitted to its scores.
        front: the best points for all preferences, None where the surrogates cannot be trusted.
        hashes: of their recipes.
    """

    surrogates: Surrogates
    front: AmortisedFront | None
    hashes: tuple[str, ...]

    def best(self, prefer: Mapping[str, float]) -> Predicted:
        """Return the point for a preference, task -> weight; empty: the weights that the run was started with."""
        return self.at(self.points.best(prefer or None))

    def at(self, place: int) -> Predicted:
        """Return a point of the front."""
        front = self.points
        rows = zip(front.values[place], front.low[place], front.high[place], strict=True)
        tasks = [objective.name for objective in front.objectives]
        return Predicted(
            self.hashes[place],
            tuple(front.vectors[place].tolist()),
            {task: (float(mean), float(low), float(high)) for task, (mean, low, high) in zip(tasks, rows, strict=True)},
            dict(zip(tasks, front.items, strict=True)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        front = None if self.front is None else {**self.front.to_dict(), "hashes": list(self.hashes)}
        return {"version": PREDICTIONS_VERSION, "surrogates": self.surrogates.to_dict(), "front": front}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Predictions":
        """Return what `to_dict` gave; `UsageError` where the data are of another version or damaged."""
        if data.get("version") != PREDICTIONS_VERSION:
            raise UsageError(f"version {data.get('version')!r} is not {PREDICTIONS_VERSION}")
        found = data["front"]
        front = None if found is None else AmortisedFront.from_dict(found)
        hashes = () if found is None else tuple(map(str, found["hashes"]))
        if front is not None and len(hashes) != len(front.vectors):
            raise UsageError("points and hashes do not go together")
        return cls(Surrogates.from_dict(data["surrogates"]), front, hashes)

    @property
    def points(self) -> AmortisedFront:
        """The front; `UsageError` with the figures where the surrogates cannot be trusted."""
        if self.front is not None:
            return self.front
        for task, diagnostics in self.surrogates.diagnostics.items():
            if not diagnostics.trusted:
                raise UsageError(f"the surrogate of {task} predicts too badly to be used ({diagnostics})")
        raise UsageError("surrogates of half of the items predict too badly: too few items, or candidates, to go by")


# ---- when a search ends --------------------------------------------------------------------------------------------


@one_thread()
def predictions_of(record: Record, space: SearchSpace, starting: Sequence[Baseline]) -> Predictions | None:
    """Fit surrogates to the trials of a run that lie in a space, and find their front; None if these are too few.

    Args:
        record: of the run; candidates have been scored on the selection split.
        space: of the run's last stage.
        starting: the baselines, in the order of their numbers.
    """
    found = []
    for number, trial in sorted(record.trials.items()):
        vector = space.vector(starting[number].place if number < len(starting) else trial.recipe)
        if vector is not None and "search" in trial.scores:
            found.append((vector, trial))
    found = found[-MOST_POINTS:]
    if len(found) < MIN_POINTS:
        return None
    goals = objectives(record, "search")
    scores = [list(trial.scores["search"].values()) for _, trial in found]
    fitted = fit_surrogates(
        space.dimensions,
        goals,
        [vector for vector, _ in found],
        [[score.mean for score in row] for row in scores],
        [[score.items for score in row] for row in scores],
        errors=[[score.error for score in row] for row in scores],
    )
    rows = [row for row, (_, trial) in enumerate(found) if trial.complete]
    complete = Answers(tuple(rows), tuple(np.array([scores[row][j].array for row in rows]) for j in range(len(goals))))
    front = amortise(fitted, complete, _selection_items(record, [goal.name for goal in goals]), seed=0)
    hashes = () if front is None else tuple(space.recipe(vector).hash for vector in front.vectors.tolist())
    return Predictions(fitted, front, hashes)


def summary(found: Predictions | None) -> dict[str, Any] | None:
    """Return how good surrogates are as plain data, for a report; `trusted`: a front can be read from them."""
    if found is None:
        return None
    return {
        task: {**as_plain(diagnostics), "trusted": diagnostics.trusted and found.front is not None}
        for task, diagnostics in found.surrogates.diagnostics.items()
    }


def summary_line(data: Mapping[str, Any]) -> str:
    """Write the summary for a person."""
    figures = ", ".join(f"{task} {diagnostics['r2']:.2f}" for task, diagnostics in data.items())
    trusted = all(diagnostics["trusted"] for diagnostics in data.values())
    use = (
        "evomerge front RUN --predicted reads a recipe for any preference from them."
        if trusted
        else "too little to read a front from."
    )
    return f"Quadratic surrogates of the search scores, R2 of points left out: {figures}; {use}"


# ---- afterwards ----------------------------------------------------------------------------------------------------


def read_predictions(run: Path) -> Predictions:
    """Read the predictions of a finished run; `UsageError` if it has none, or none that can be trusted."""
    directory = RunDirectory(run)
    directory.read()  # refuses what is no run
    again = "run the same search again, it writes the file anew"
    try:
        found = Predictions.from_dict(json.loads(directory.surrogates.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise UsageError(f"{run}: no predictions here; they are written when a search ends: run it again") from None
    except OSError as error:
        raise UsageError(f"{directory.surrogates}: cannot be read: {error.strerror}") from None
    except UsageError as error:
        raise UsageError(f"{directory.surrogates}: {error}; {again}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{directory.surrogates}: damaged; {again}") from None
    try:
        _ = found.points
    except UsageError as error:
        raise UsageError(f"{run}: {error}") from None
    return found


def predicted_json(run: Path, prefer: Mapping[str, float]) -> dict[str, Any]:
    """Return the predicted front of a run as plain data, and the recipe for the preferences."""
    found = read_predictions(run)
    front = found.points
    return {
        "version": PREDICTIONS_VERSION,
        "surrogates": summary(found),
        "best": _point(found, front.best(prefer or None)),
        "front": [_point(found, place) for place in range(len(found.hashes))],
    }


def predicted_table(run: Path, prefer: Mapping[str, float]) -> None:
    """Print the predicted front of a run; the first row is the recipe for the preferences."""
    found = read_predictions(run)
    front = found.points
    shares = [are_shares(column) for column in found.surrogates.values.T.tolist()]
    places = {"best": front.best(prefer or None)}
    places |= {str(number): place for number, place in enumerate(front.telling(SHOWN), start=1)}
    header = ["predicted", *(objective.name for objective in front.objectives), "mean normalised", "recipe"]
    print_table(header, [_row(found, name, place, shares) for name, place in places.items()])
    wanted = prefer or {objective.name: objective.weight for objective in front.objectives}
    sizes = ", ".join(f"{n} of {o.name}" for o, n in zip(front.objectives, front.items, strict=True))
    weights = ", ".join(f"{task}={weight:g}" for task, weight in wanted.items())
    print(f"best is for {weights}; the others are some of {len(found.hashes)} recipes, each best for some preference.")
    print("Nothing was scored for them. In brackets the promise: with 95 % probability all scores of a recipe on the")
    print(f"selection split ({sizes}) lie there. It allows for what the best of many predictions flatters.")
    for line in found.surrogates.describe():
        print(line)


def predicted_page(run: Path) -> dict[str, Any] | None:
    """Return the predictions of a run for its page, None where there are none that can be trusted.

    The recipe for weights w is that of the point i for which lacking is least, of equals the one with the largest
    worth, of equals the first. In double precision, all sums from 0 and over the tasks in order:

        scaled(t, x) = (x - low[t]) / (high[t] - low[t]), or x itself where low[t] is null
        lacking = sum of max(scaled(t, floors[t]) - scaled(t, values[i][t]), 0) over the tasks that have a floor
        worth = (sum of w[t] * scaled(t, values[i][t])) / (sum of w[t])

    The numbers are exact and must stay so: rounded ones may choose another point.
    """
    try:
        found = read_predictions(run)
    except UsageError:
        return None
    front, dimensions = found.points, found.surrogates.dimensions
    ends = [scale_ends(objective) or (None, None) for objective in front.objectives]
    vectors = front.vectors.tolist()
    return {
        "tasks": [objective.name for objective in front.objectives],
        "low": [low for low, _ in ends],
        "high": [high for _, high in ends],
        "weights": [objective.weight for objective in front.objectives],
        "floors": [objective.floor for objective in front.objectives],
        "items": list(front.items),
        "points": {
            "vector": vectors,
            "values": front.values.tolist(),
            "promise_low": front.low.tolist(),
            "promise_high": front.high.tolist(),
            "hash": list(found.hashes),
            "parameters": [list(_parameters(dimensions, vector).values()) for vector in vectors],
        },
        "trusted": True,
        "diagnostics": summary(found),
        "command": f"evomerge export {shlex.quote(str(run))} OUT --predicted {{prefer}}",
    }


def predicted_recipe(space: SearchSpace, point: Predicted) -> Recipe:
    """Return the recipe of a predicted point; `UsageError` if the space is not the one that it was predicted in."""
    recipe = space.recipe(point.vector) if len(space) == len(point.vector) else None
    if recipe is None or recipe.hash != point.hash:
        raise UsageError("the predictions are of another space than the run's; run the same search again")
    return recipe


# ---- parts ---------------------------------------------------------------------------------------------------------


def _selection_items(record: Record, tasks: Sequence[str]) -> list[int]:
    """Return how many items of each task are scored on the selection split; as on the search split if none was."""
    for split in ("selection", "search"):
        for trial in record.of_kind():
            if split in trial.scores:
                return [trial.scores[split][task].items for task in tasks]
    raise ValueError("no trial has a score")


def _parameters(dimensions: Sequence[Dimension], vector: Sequence[float]) -> dict[str, Value]:
    return {dimension.name: dimension.value(u) for dimension, u in zip(dimensions, vector, strict=True)}


def _point(found: Predictions, place: int) -> dict[str, Any]:
    """Return a point as plain data."""
    point = found.at(place)
    return {
        "hash": point.hash,
        "vector": list(point.vector),
        "parameters": _parameters(found.surrogates.dimensions, point.vector),
        "scores": {
            task: {"predicted": mean, "promise": {"low": low, "high": high}, "items": point.items[task]}
            for task, (mean, low, high) in point.scores.items()
        },
    }


def _row(found: Predictions, name: str, place: int, shares: Sequence[bool]) -> list[str]:
    """Return one line of the table; scores as they are, the mean over tasks with the weights of the run."""
    front, point = found.points, found.at(place)
    intervals = [Interval(mean, math.nan, low, high) for mean, low, high in point.scores.values()]
    cells = [percent(i) if share else plain(i) for i, share in zip(intervals, shares, strict=True)]
    free = [replace(objective, floor=None) for objective in front.objectives]
    joined = worth(free, front.values[[place]], np.array([preference_weights(free, None)]))[0, 0]
    return [name, *cells, f"{joined:.2f}", point.hash]
