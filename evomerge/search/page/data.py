"""The data of a page: one or several runs as plain JSON data, in the words that the page understands.

A run that still goes on, or was killed, has a page too. This file joins; what is computed is computed by its
neighbours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge import __version__
from evomerge.errors import UsageError
from evomerge.evaluation.types import SPLITS
from evomerge.reporting.page import PAGE_VERSION
from evomerge.reporting.tables import are_shares
from evomerge.search.directory import RunDirectory
from evomerge.search.fronts import hypervolume_data
from evomerge.search.page.cost import cost
from evomerge.search.page.curves import baseline_lines, curves
from evomerge.search.page.groups import comparison_data
from evomerge.search.page.heat import Grid
from evomerge.search.page.importance import importance
from evomerge.search.page.notes import failures, flags, flat_scales
from evomerge.search.page.numbers import short
from evomerge.search.page.trials import dimensions, trial_columns
from evomerge.search.page.versus import versus
from evomerge.search.page.view import View
from evomerge.search.page.wins import wins


def page_data(runs: Sequence[Path | View]) -> dict[str, Any]:
    """Return the data of a page on one or several runs.

    Raises `UsageError` for what is no run or has no scores yet, and for runs that were not scored on the same items or
    have other objectives, so that they cannot be compared.
    """
    views = [run if isinstance(run, View) else View.open(run) for run in runs]
    for other in views[1:]:
        _check_comparable(views[0], other)
    names = run_names([view.path for view in views])
    return {
        "version": PAGE_VERSION,
        "evomerge": __version__,
        "title": names[0] if len(names) == 1 else f"{len(names)} runs",
        "tasks": _tasks(views),
        "comparison": comparison_data(views),
        "runs": [_run(view, name, views[0]) for view, name in zip(views, names, strict=True)],
    }


def _run(view: View, name: str, first: View) -> dict[str, Any]:
    shown = view.shown
    members = view.front
    candidates = [trial.recipe for trial in [*members, *shown] if trial.kind == "candidate"]
    grid = Grid(view.layout, [*candidates, *(trial.recipe for trial in shown)])
    shares, note = importance(view)
    return {
        "name": name,
        "path": str(view.path),
        "optimizer": view.config.get("optimizer", {}).get("name"),
        "seed": view.config.get("seed"),
        "method": ", ".join(_methods(view)),
        "experts": list(view.trials[0].recipe.experts),
        "state": view.state,
        "openings": view.record.openings,
        "notes": [*view.notes, *flat_scales(view), *_scale_notes(view, first)],
        "items": _items(view),
        "dimensions": dimensions(view),
        "trials": trial_columns(view),
        "curves": curves(view),
        "baseline_lines": baseline_lines(view),
        "hypervolume": _hypervolume(view),
        "recipes": {str(t.number): {"yaml": t.recipe.to_yaml(), "heat": grid.draw(t.recipe)} for t in shown},
        "front_heat": grid.mean_and_spread([trial.recipe for trial in members]) if members else None,
        "importance": shares,
        "importance_note": note,
        "versus": versus(view),
        "wins": wins(view),
        "flags": flags(view),
        "failures": failures(view),
        "advice": list(view.about.advice),
        "cost": cost(view),
        "predicted": _predicted(view),
    }


def _tasks(views: Sequence[View]) -> list[dict[str, Any]]:
    """Describe the tasks; the ends of their scales are those of the first run."""
    first, rows = views[0], []
    for scale in first.scales:
        given = first.config.get("tasks", {}).get(scale.name) or {}
        metric, larger = first.about.metrics.get(scale.name, (given.get("metric"), True))
        scores = (
            trial.scores["search"][scale.name].scores for v in views for trial in v.trials if "search" in trial.scores
        )
        rows.append(
            {
                "name": scale.name,
                "metric": metric,
                "share": all(are_shares(row) for row in scores),
                "larger_is_better": larger,  # of the metric; scores are turned so that larger always is
                "weight": short(scale.weight),
                "floor": short(scale.floor),
                "low": short(scale.low),
                "high": short(scale.high),
            }
        )
    return rows


def _items(view: View) -> dict[str, dict[str, int]]:
    """Return split -> task -> how many items a model is scored on: as the run began, else the most that any has."""
    if view.about.items:
        return {split: {task: len(ids) for task, ids in tasks.items()} for split, tasks in view.about.items.items()}
    return {
        split: {task: max(t.scores[split][task].items for t in view.trials if split in t.scores) for task in view.tasks}
        for split in view.splits
    }


def _hypervolume(view: View) -> dict[str, dict[str, float | None]]:
    """Return what the front covers on the splits that took no part in its choice, with intervals."""
    found = {split: hypervolume_data(view.record, view.front, split) for split in SPLITS[1:]}
    return {split: {key: short(data[key]) for key in ("mean", "low", "high")} for split, data in found.items() if data}


def _methods(view: View) -> list[str]:
    methods = view.config.get("space", {}).get("methods")
    return list(methods or dict.fromkeys(trial.recipe.method for trial in view.record.of_kind("candidate")))


def _predicted(view: View) -> dict[str, Any] | None:
    """Return the predicted front, None where the run has none."""
    from evomerge.search.predicted import predicted_page  # here: it loads the optimizers' libraries

    return predicted_page(view.path) if RunDirectory(view.path).surrogates.exists() else None


# ---- several runs ----------------------------------------------------------------------------------------------------


def comparable(views: Sequence[View]) -> list[list[View]]:
    """Return runs in lots that can be compared: the same models, tasks, items, weights and floors."""
    lots: dict[str, list[View]] = {}
    for view in views:
        models = {key: view.config.get("models", {}).get(key) for key in ("base", "experts")}
        same = (models, view.tasks, _search_prompts(view), view.weights, view.floors)
        lots.setdefault(repr(same), []).append(view)
    return list(lots.values())


def _check_comparable(first: View, other: View) -> None:
    """Raise `UsageError` unless two runs have the same objectives and were scored on the same items."""
    both = f"{first.path} and {other.path}"
    if first.tasks != other.tasks:
        raise UsageError(
            f"{both} have other tasks ({', '.join(first.tasks)}; {', '.join(other.tasks)}): not comparable"
        )
    mine, theirs = (_search_prompts(view) for view in (first, other))
    for place in mine:
        if mine[place] != theirs.get(place):
            raise UsageError(f"{both} were not scored on the same items ({place}): they cannot share a report")
    if (first.weights, first.floors) != (other.weights, other.floors):
        raise UsageError(f"{both} have other weights or floors of their tasks: they cannot share a report")


def _search_prompts(view: View) -> Mapping[str, str]:
    """The hashes of items and prompts by split and task."""
    prompts: Mapping[str, str] = (view.record.begin or {}).get("prompts", {})
    return prompts


def _scale_notes(view: View, first: View) -> list[str]:
    if view.anchors == first.anchors:
        return []
    return [
        f"Base or experts score otherwise than in {first.path}: normalised scores are on each run's own scale, and "
        "only the tasks' own scores are comparable."
    ]


def run_names(paths: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell the runs apart."""
    resolved = [path.resolve() for path in paths]
    for depth in range(1, max(len(path.parts) for path in resolved) + 1):
        names = ["/".join(path.parts[-depth:]) for path in resolved]
        if len(set(names)) == len(names):
            return names
    return [f"{path.name} ({number})" for number, path in enumerate(resolved, start=1)]
