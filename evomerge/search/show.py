"""What a run directory shows: its front, as a table or as data, and the candidate that somebody means.

This file reads run directories; it knows nothing about how a search goes on, nor about models.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.reporting.front import knee, preferred
from evomerge.reporting.tables import plain, print_table
from evomerge.search.baselines import RIVALS
from evomerge.search.columns import (
    SEARCH_SAID,
    covered_lines,
    estimate_text,
    flagged,
    legend,
    trial_columns,
    with_error,
)
from evomerge.search.directory import FRONT_VERSION, RunDirectory
from evomerge.search.fronts import front_data
from evomerge.search.record import Record, Trial
from evomerge.search.results import (
    best_of,
    by_estimate,
    estimates,
    front,
    gain_of,
    joined_interval,
    normalised_points,
    objectives,
    selected,
)


def front_json(path: Path, prefer: Mapping[str, float]) -> dict[str, Any]:
    """Return the front of a run as plain data, ordered by weighted normalised scores (equal weights by default).

    `preferred` is the first where weights are given: what `evomerge export --prefer` writes.
    """
    record = read_run(path)
    best, members = selected(record)[:1], _ordered(record, prefer)
    return {
        "version": FRONT_VERSION,
        "best": best[0].number if best else None,
        "preferred": members[0].number if prefer else None,
        **front_data(record, members),
    }


def front_table(path: Path, prefer: Mapping[str, float]) -> Trial:
    """Print the baselines and the front of a run, with what search scores are worth and what selection said.

    `*` marks the best on the selection split. Of random points only the best is shown. Returns the front's first, which
    is what `evomerge export --prefer` writes for these weights.
    """
    record = read_run(path)
    best, members, worth = selected(record)[:1], _ordered(record, prefer), estimates(record)
    off_front = [trial for trial in best if trial not in members]
    fixed = [*record.of_kind("base", "expert", "uniform", "untuned"), *_best_random(record)]
    trials = [*fixed, *off_front, *members]
    header, columns = trial_columns(record, trials, "search", with_error, estimates=worth)
    rows = [
        [
            _name(record, trial, best),
            *column,
            estimate_text(dict(zip(("mean", "error"), worth[trial.number].joined, strict=True))),
            _on_selection(record, trial),
        ]
        for trial, column in zip(trials, columns, strict=True)
    ]
    header = ["candidate", *header, "search said", "on selection"]
    print_table(header, rows)
    print("Scores on the search split, ± one standard error, and mean normalised: 0 is the base, 1 the best experts.")
    print(SEARCH_SAID)
    for line in [*covered_lines(front_data(record, members)), *legend(header, rows)]:
        print(line)
    return members[0]


def _best_random(record: Record) -> list[Trial]:
    """Return the random point that is best on the selection split, or by what its search scores are worth."""
    best = best_of(record, "random")
    scored = [trial for trial in record.of_kind("random") if "search" in trial.scores]
    return [best] if best is not None else by_estimate(record, scored, estimates(record))[:1]


def _name(record: Record, trial: Trial, best: Sequence[Trial]) -> str:
    if trial.kind == "random":
        return f"{RIVALS['random']} of {len(record.of_kind('random'))}"
    return f"{trial.name}{' *' if trial in best else ''}"


def _on_selection(record: Record, trial: Trial) -> str:
    """Write a trial's mean normalised score on the selection split, marked if its gain on some task is health."""
    if "selection" not in trial.scores:
        return "-"
    joined = joined_interval(record, trial, "selection")
    gains = [gain_of(record, trial, "selection", task) for task in trial.scores["selection"]]
    return flagged(plain(joined), any(gain is not None and gain.explained for gain in gains))


def read_run(path: Path) -> Record:
    """Read the record of a run; `UsageError` if there is none or it has no candidate yet."""
    record = RunDirectory(path).read()
    if not record.candidates:
        raise UsageError(f"{path}: no candidate has been scored yet")
    return record


def _points(record: Record, trials: list[Trial]) -> list[list[float]]:
    """Return what trials' search scores are worth, normalised."""
    return normalised_points(record, trials, estimates(record))


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
