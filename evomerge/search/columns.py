"""Columns of scores, the same in every table: a model's score on a task, what is wrong with its answers, and the mark
of a gain that only comes from sounder answers.

This file knows nothing about which models are shown, nor about where tables go.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from evomerge.evaluation.health import Health
from evomerge.evaluation.types import Split
from evomerge.reporting.statistics import Interval, mean_interval
from evomerge.reporting.tables import are_shares, digits, percent, plain
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import Estimate, gain_of

FLAG = "†"
RATES = "t/e/l/m %"
FLAG_LINE = (
    f"{FLAG} at least half of a gain over the best expert on a task is health, not knowledge: on those items the "
    "expert's answers were cut off, empty, looping or in the wrong form."
)
RATES_LINE = (
    f"{RATES}: answers truncated, empty, looping (the end repeats itself), misshapen (right, but not in the form that "
    "was asked for); a task without this column has none."
)
SEARCH_SAID = (
    "search said: mean normalised on the search split, ± one standard error. There, scores of candidates and random "
    "points are shrunk, which takes out most of the luck of the best of many."
)


@dataclass(frozen=True)
class Cell:
    """A model's result on a task: its score as text, its health, and whether its gain is explained by health."""

    score: str
    health: Health
    explained: bool = False


def score_columns(shares: Mapping[str, bool], rows: Sequence[Mapping[str, Cell]]) -> tuple[list[str], list[list[str]]]:
    """Return header and cells: for each task its scores, and the rates of unsound answers if there are any.

    Args:
        shares: task -> whether its scores are written in per cent.
        rows: for each model, task -> cell.
    """
    header: list[str] = []
    columns: list[list[str]] = [[] for _ in rows]
    for task, share in shares.items():
        cells = [row[task] for row in rows]
        sick = not all(cell.health.sound for cell in cells)
        header += [f"{task} %" if share else task, *([RATES] if sick else [])]
        for column, cell in zip(columns, cells, strict=True):
            column += [flagged(cell.score, cell.explained), *([rates(cell.health)] if sick else [])]
    return header, columns


def trial_columns(
    record: Record,
    trials: Sequence[Trial],
    split: Split,
    write: Callable[[TaskScore, bool], str],
    *,
    estimates: Mapping[int, Estimate] | None = None,
) -> tuple[list[str], list[list[str]]]:
    """Return `score_columns` of trials on a split; `write(score, share)` turns a score into text.

    With `estimates` (by number) a score has their mean and error in place of its own.
    """
    tasks = list(trials[0].scores[split])
    shares = {task: all(are_shares(trial.scores[split][task].scores) for trial in trials) for task in tasks}
    rows = []
    for trial in trials:
        cells = {}
        for task, score in trial.scores[split].items():
            gain = gain_of(record, trial, split, task)
            if estimates is not None:
                mean, error = estimates[trial.number].tasks[task]
                score = replace(score, mean=mean, error=error)
            cells[task] = Cell(write(score, shares[task]), score.health, gain is not None and gain.explained)
        rows.append(cells)
    return score_columns(shares, rows)


def with_error(score: TaskScore, share: bool) -> str:
    """Write a score as `61.5 ± 2.1`."""
    if share:
        return f"{100 * score.mean:.1f} ± {100 * score.error:.1f}"
    return f"{score.mean:.4g} ± {score.error:.2g}"


def with_interval(score: TaskScore, share: bool) -> str:
    """Write a score as `61.5 [57.2, 65.6]`."""
    return interval_text(mean_interval(score.scores), share)


def interval_text(interval: Interval, share: bool) -> str:
    """Write an interval of a share in per cent, any other with four significant digits."""
    return percent(interval) if share else digits(interval)


def estimate_text(estimate: Mapping[str, float]) -> str:
    """Write what a search score is worth as `0.62 ± 0.04`."""
    return f"{estimate['mean']:.2f} ± {estimate['error']:.2f}"


def covered_lines(front: Mapping[str, Any]) -> list[str]:
    """Return a line on how much the front (`fronts.front_data`) covers for each split that it was scored on.

    A single member of several is no front.
    """
    return [
        f"Front on the {split} split ({len(data['on_front'])} of its {len(front['members'])} members): hypervolume "
        f"{plain(Interval(data['mean'], data['error'], data['low'], data['high']))}; 0 is the base, 1 all that lies "
        "between it and the best experts' scores at once."
        for split, data in front["hypervolume"].items()
        if len(data["on_front"]) > 1 or len(front["members"]) == 1
    ]


def flagged(text: str, explained: bool) -> str:
    """Mark a score if its gain is explained by health."""
    return f"{text} {FLAG}" if explained else text


def rates(health: Health) -> str:
    """Write the rates of unsound answers in whole per cent, as `12/0/3/5`; `<1` where it is more than none."""
    return "/".join(
        "<1" if 0 < rate < 0.005 else f"{100 * rate:.0f}"
        for rate in (health.truncated, health.empty, health.looping, health.misshapen)
    )


def legend(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines that explain the marks and short names in a finished table, none that it does not need."""
    marked = any(cell.endswith(FLAG) for row in rows for cell in row)
    return [*([RATES_LINE] if RATES in header else []), *([FLAG_LINE] if marked else [])]
