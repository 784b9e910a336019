"""What a run directory shows: its front, as a table or as data, and the candidate that somebody means.

This file reads run directories; it knows nothing about how a search goes on, nor about models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.reporting.front import knee, preferred
from evomerge.reporting.tables import print_table
from evomerge.search.columns import flagged, legend, trial_columns, with_error
from evomerge.search.directory import FRONT_VERSION, RunDirectory
from evomerge.search.record import Record, Trial
from evomerge.search.results import front, front_row, gain_of, mean_normalised, objectives, selected


def front_json(path: Path, prefer: Mapping[str, float]) -> dict[str, Any]:
    """Return the front of a run as plain data, ordered by weighted normalised scores (equal weights by default)."""
    record = read_run(path)
    members = _ordered(record, prefer)
    best = selected(record)[:1]
    return {
        "version": FRONT_VERSION,
        "best": best[0].number if best else None,
        "members": [front_row(record, trial) for trial in members],
    }


def front_table(path: Path, prefer: Mapping[str, float]) -> None:
    """Print the baselines and the front of a run with its search scores; `*` marks the best on the selection split."""
    record = read_run(path)
    best, members = selected(record)[:1], _ordered(record, prefer)
    off_front = [trial for trial in best if trial not in members]
    trials = [*record.of_kind("base", "expert", "uniform"), *off_front, *members]
    header, columns = trial_columns(record, trials, "search", with_error)
    rows = [
        [
            f"{trial.name}{' *' if trial in best else ''}",
            *column,
            f"{mean_normalised(record, trial, 'search'):.2f}",
            _on_selection(record, trial),
        ]
        for trial, column in zip(trials, columns, strict=True)
    ]
    header = ["candidate", *header, "normalised", "on selection"]
    print_table(header, rows)
    print("Scores on the search split, ± one standard error: the optimizer saw these, so the best of them flatter.")
    for line in legend(header, rows):
        print(line)


def _on_selection(record: Record, trial: Trial) -> str:
    """Write a trial's mean normalised score on the selection split, marked if its gain on some task is health."""
    if "selection" not in trial.scores:
        return "-"
    gains = [gain_of(record, trial, "selection", task) for task in trial.scores["selection"]]
    explained = any(gain is not None and gain.explained for gain in gains)
    return flagged(f"{mean_normalised(record, trial, 'selection'):.2f}", explained)


def read_run(path: Path) -> Record:
    """Read the record of a run; `UsageError` if there is none or it has no candidate yet."""
    record = RunDirectory(path).read()
    if not record.candidates:
        raise UsageError(f"{path}: no candidate has been scored yet")
    return record


def _points(record: Record, trials: list[Trial]) -> list[list[float]]:
    scales = objectives(record, "search")
    return [[scale.normalise(trial.scores["search"][scale.name].mean) for scale in scales] for trial in trials]


def _weights(record: Record, prefer: Mapping[str, float]) -> list[float]:
    tasks = [objective.name for objective in objectives(record, "search")]
    refuse_unknown(prefer, tasks, "--prefer")
    if prefer and not any(prefer.values()):
        raise UsageError("--prefer: all weights are 0; give at least one task a weight above 0")
    return [prefer.get(task, 0.0) if prefer else 1.0 for task in tasks]


def _ordered(record: Record, prefer: Mapping[str, float]) -> list[Trial]:
    weights, members = _weights(record, prefer), front(record)
    worth = [sum(w * x for w, x in zip(weights, point, strict=True)) for point in _points(record, members)]
    return [members[i] for i in sorted(range(len(members)), key=lambda i: (-worth[i], members[i].number))]


def pick_trial(record: Record, pick: str, prefer: Mapping[str, float]) -> Trial:
    """Return the trial that `--pick` (best, knee, a number) or weights (which win) mean, or raise `UsageError`."""
    members = front(record)
    if prefer:
        return members[preferred(_points(record, members), _weights(record, prefer))]
    if pick == "knee":
        return members[knee(_points(record, members))]
    if pick == "best":
        best = selected(record)
        if not best:
            raise UsageError("no candidate has been scored on the selection split yet; pick a number or finish the run")
        return best[0]
    if not pick.isdecimal() or int(pick) not in record.trials:
        raise UsageError(f"--pick {pick}: no such candidate; write best, knee, or a number that `evomerge front` shows")
    return record.trials[int(pick)]
