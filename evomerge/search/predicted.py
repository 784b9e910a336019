"""The amortised front: quadratic surrogates of a run's scores, saved with it, from which the best trade-off for any
preference is read without scoring anything.

A prediction is no score: the recipe of a predicted point has to be evaluated before anything is claimed of it. This
file knows nothing about how surrogates are fitted.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError
from evomerge.optimizers.map import Predicted, Surrogates, fit_surrogates
from evomerge.optimizers.map.surrogate import as_plain
from evomerge.optimizers.map.surrogates import MIN_POINTS
from evomerge.optimizers.scalarization import weighted_sum
from evomerge.recipes import Recipe, SearchSpace
from evomerge.reporting.statistics import Interval
from evomerge.reporting.tables import are_shares, percent, plain, print_table
from evomerge.search.baselines import Baseline
from evomerge.search.directory import RunDirectory
from evomerge.search.record import Record
from evomerge.search.results import objectives
from evomerge.threads import one_thread

#: Points of a predicted front that are shown.
SHOWN = 12


@one_thread()
def surrogates_of(record: Record, space: SearchSpace, starting: Sequence[Baseline]) -> Surrogates | None:
    """Fit surrogates to all trials of a run, baselines first, that lie in a space; None if they are too few."""
    rows = []
    for number, trial in sorted(record.trials.items()):
        vector = space.vector(starting[number].place if number < len(starting) else trial.recipe)
        if vector is not None and "search" in trial.scores:
            scores = trial.scores["search"].values()
            rows.append((vector, *([getattr(s, key) for s in scores] for key in ("mean", "items", "error"))))
    if len(rows) < MIN_POINTS:
        return None
    points, values, items, errors = zip(*rows, strict=True)
    return fit_surrogates(space.dimensions, objectives(record, "search"), points, values, items, errors=errors)


def read_surrogates(run: Path) -> Surrogates:
    """Read the surrogates of a finished run; `UsageError` if it has none, or none that are trusted."""
    directory = RunDirectory(run)
    directory.read()  # refuses what is no run
    try:
        data = json.loads(directory.surrogates.read_text(encoding="utf-8"))
    except OSError:
        raise UsageError(f"{run}: no surrogates here; they are written when a search ends: run it again") from None
    except ValueError:
        raise UsageError(f"{directory.surrogates}: damaged; run the search again, it writes the file anew") from None
    found = Surrogates.from_dict(data)
    for task, diagnostics in found.diagnostics.items():
        if not diagnostics.trusted:
            raise UsageError(f"{run}: the surrogate of {task} predicts too badly to be used ({diagnostics})")
    return found


@one_thread()
def predicted_json(run: Path, prefer: Mapping[str, float]) -> dict[str, Any]:
    """Return the predicted front of a run as plain data, and with preferences the predicted best."""
    found = read_surrogates(run)
    return {
        "tasks": [objective.name for objective in found.objectives],
        "surrogates": {task: as_plain(diagnostics) for task, diagnostics in found.diagnostics.items()},
        "best": asdict(found.best(prefer or None)),
        "front": [asdict(point) for point in found.front(SHOWN, prefer or None)],
    }


@one_thread()
def predicted_table(run: Path, prefer: Mapping[str, float]) -> None:
    """Print the predicted front of a run; the first row is the predicted best for the preferences."""
    found = read_surrogates(run)
    shares = [are_shares(column) for column in found.values.T.tolist()]
    points = {"best": found.best(prefer or None)} | {
        str(number): point for number, point in enumerate(found.front(SHOWN, prefer or None), start=1)
    }
    header = ["predicted", *(objective.name for objective in found.objectives), "mean normalised"]
    print_table(header, [_row(found, name, point, shares) for name, point in points.items()])
    print(
        "Predictions with 95 % intervals, from the search scores of this run; nothing was scored for them, and the best"
    )
    print("of many predictions flatters: evaluate a recipe before anything is claimed of it.")
    for line in found.describe():
        print(line)


def summary(found: Surrogates | None) -> dict[str, Any] | None:
    """Return how good surrogates are as plain data, for a report."""
    if found is None:
        return None
    return {task: as_plain(diagnostics) for task, diagnostics in found.diagnostics.items()}


def summary_line(data: Mapping[str, Any]) -> str:
    """Write the summary for a person."""
    figures = ", ".join(f"{task} {diagnostics['r2']:.2f}" for task, diagnostics in data.items())
    trusted = all(diagnostics["trusted"] for diagnostics in data.values())
    use = (
        "evomerge front RUN --predicted reads a front for any preference from them."
        if trusted
        else "too little to read a front from."
    )
    return f"Quadratic surrogates of the search scores, R2 of points left out: {figures}; {use}"


@one_thread()
def predicted_recipe(space: SearchSpace, found: Surrogates, prefer: Mapping[str, float]) -> Recipe:
    """Return the recipe of the predicted best."""
    if [d.name for d in space.dimensions] != [d.name for d in found.dimensions]:
        raise UsageError(
            "the surrogates are of another space than the run's; run the search again, it writes them anew"
        )
    return space.recipe(found.best(prefer or None).vector)


def _row(found: Surrogates, name: str, point: Predicted, shares: list[bool]) -> list[str]:
    """Return one line of the table; intervals as they are, the mean over tasks without one."""
    intervals = [Interval(*ends) for ends in zip(point.values, point.values, point.low, point.high, strict=True)]
    cells = [percent(i) if share else plain(i) for i, share in zip(intervals, shares, strict=True)]
    return [name, *cells, f"{_mean_normalised(found, point):.2f}"]


def _mean_normalised(found: Surrogates, point: Predicted) -> float:
    return weighted_sum([replace(o, floor=None) for o in found.objectives], point.values)
