"""A run as pandas data frames, for notebooks: its trials, their scores, their parameters, their outcomes.

Pure functions of the record and of what the outcome store holds. This file knows nothing about where runs lie, nor
about models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pandas as pd

from evomerge.evaluation.health import EMPTY, LOOPING, MISSHAPEN, TRUNCATED
from evomerge.evaluation.types import SPLITS, Outcome, Split
from evomerge.recipes import Recipe
from evomerge.search.fronts import score_interval
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import estimates, front, gain_of, mean_normalised, selected

#: The column of all tasks joined, beside those of single tasks.
JOINED = "mean normalised"


def trials_frame(record: Record) -> pd.DataFrame:
    """Return one row a trial (there is at least one), by number: who it is, whether on the front, its mean scores.

    Scores are in columns `split/task` and `split/mean normalised` (0 is the base, 1 the best experts); `worth` and
    `worth_error` are what the search score is worth, mean normalised and shrunk where there are many.
    """
    scaled = _scaled(record)
    worth = estimates(record) if scaled else {}
    members = {trial.number for trial in front(record, worth)} if scaled else set()
    best = {trial.number for trial in selected(record)[:1]}
    rows = []
    for trial in record.of_kind():
        estimate = worth.get(trial.number)
        rows.append(
            {
                "number": trial.number,
                "kind": trial.kind,
                "name": trial.name,
                "state": _state(trial),
                "front": trial.number in members,
                "best": trial.number in best,
                "worth": None if estimate is None else estimate.joined[0],
                "worth_error": None if estimate is None else estimate.joined[1],
                **_means(record, trial, scaled),
                "seconds": trial.seconds,
                "stage": trial.stage,
                "beaten_by": trial.beaten_by,
                "failure": None if trial.failure is None else f"{trial.failure.kind}: {trial.failure.message}",
                "recipe": trial.recipe.hash,
                "fingerprint": trial.fingerprint,
            }
        )
    return _frame(rows).astype({"beaten_by": "Int64", "worth": float, "worth_error": float})


def scores_frame(record: Record) -> pd.DataFrame:
    """Return one row a trial, split and task: the score with its interval, how sound the answers are, and the gain over
    the best expert with the part of it that is health.
    """
    return pd.DataFrame(
        [
            {
                "number": trial.number,
                "name": trial.name,
                "split": split,
                "task": task,
                **asdict(score_interval(score)),
                "tokens": score.tokens,
                **asdict(score.health),
                **_gain(record, trial, split, task),
            }
            for trial in (record.of_kind() if _scaled(record) else ())
            for split in SPLITS
            for task, score in trial.scores.get(split, {}).items()
        ]
    )


def parameters_frame(record: Record) -> pd.DataFrame:
    """Return one row a candidate, by number: what its recipe sets, in columns `parameter/expert/group` and
    `option/group`; where methods are searched too, each has the columns that it knows.
    """
    return _frame([{"number": trial.number, **_settings(trial.recipe)} for trial in record.of_kind("candidate")])


def outcomes_frame(
    record: Record,
    items: Mapping[Split, Mapping[str, Sequence[str]]],
    stored: Mapping[str, Sequence[Outcome]],
) -> pd.DataFrame:
    """Return one row a trial, split, task and item: its score, what is wrong with the answer, and the answer.

    Args:
        record: the record.
        items: the run's items: split -> task -> ids, in the run's order.
        stored: fingerprint -> what the outcome store holds of these weights; an answer that is not there is None.
    """
    rows: list[dict[str, Any]] = []
    for trial in record.of_kind():
        known = _by_item(stored.get(trial.fingerprint or "", ()))
        for split in SPLITS:
            for task, score in trial.scores.get(split, {}).items():
                rows += _outcomes(trial, split, task, score, items[split][task], known)
    return pd.DataFrame(rows)


# ---- parts ---------------------------------------------------------------------------------------------------------


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=None if rows else ["number"]).set_index("number")


def _state(trial: Trial) -> str:
    if trial.failure is not None:
        return "failed"
    if "search" not in trial.scores:
        return "waiting"
    return "scored" if trial.complete else "cut short"


def _scaled(record: Record) -> bool:
    """Say whether base and experts have been scored: before that there is no zero and no one."""
    parents = [trial for trial in record.of_kind("base", "expert") if "search" in trial.scores]
    return bool(parents) and len(parents) == 1 + len(parents[0].recipe.experts)


def _means(record: Record, trial: Trial, scaled: bool) -> dict[str, float]:
    means: dict[str, float] = {}
    for split in SPLITS:
        if split in trial.scores:
            means |= {f"{split}/{task}": score.mean for task, score in trial.scores[split].items()}
            if scaled:
                means[f"{split}/{JOINED}"] = mean_normalised(record, trial, split)
    return means


def _gain(record: Record, trial: Trial, split: Split, task: str) -> dict[str, float | None]:
    gain = gain_of(record, trial, split, task)
    return {"gain": None if gain is None else gain.total, "gain_by_health": None if gain is None else gain.health}


def _settings(recipe: Recipe) -> dict[str, Any]:
    parameters = {
        f"{name}/{expert}/{group}": value
        for name, by_expert in recipe.parameters.items()
        for expert, groups in by_expert.items()
        for group, value in groups.items()
    }
    options = {f"{name}/{group}": value for name, groups in recipe.options.items() for group, value in groups.items()}
    return {"method": recipe.method, **parameters, **options}


def _by_item(outcomes: Sequence[Outcome]) -> dict[tuple[str, str], list[Outcome]]:
    known: dict[tuple[str, str], list[Outcome]] = {}
    for outcome in outcomes:
        known.setdefault((outcome.task, outcome.item), []).append(outcome)
    return known


def _outcomes(
    trial: Trial,
    split: Split,
    task: str,
    score: TaskScore,
    items: Sequence[str],
    known: Mapping[tuple[str, str], Sequence[Outcome]],
) -> list[dict[str, Any]]:
    rows = []
    for (place, value), mark in zip(score.by_place.items(), score.marks, strict=True):
        bits, item = int(mark, 16), items[place]
        # A shared folder may have the item under other settings too: the answer is one that has this score.
        answers = [o for o in known.get((task, item), ()) if float(f"{o.score:.6g}") == value]
        rows.append(
            {
                "number": trial.number,
                "name": trial.name,
                "kind": trial.kind,
                "split": split,
                "task": task,
                "item": item,
                "score": value,
                "truncated": bool(bits & TRUNCATED),
                "empty": bool(bits & EMPTY),
                "looping": bool(bits & LOOPING),
                "misshapen": bool(bits & MISSHAPEN),
                "tokens": answers[0].tokens if answers else None,
                "answer": answers[0].answer if answers else None,
            }
        )
    return rows
