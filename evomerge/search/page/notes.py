"""What a reader should be warned of: unsound answers, gains that are only health, and candidates that failed.

This file knows nothing about how it is shown.
"""

from typing import Any

from evomerge.evaluation.types import Split
from evomerge.search.page.view import View
from evomerge.search.record import Trial
from evomerge.search.scales import doubtful_scales

#: A rate of unsound answers is told of from here on, where it is above the base's too.
NOTABLE = 0.1
_WORDS = {"truncated": "cut off", "empty": "empty", "looping": "looping", "misshapen": "right but in the wrong form"}


def flags(view: View) -> list[dict[str, Any]]:
    """Return what is wrong with the answers of the shown merges, a line a trial, task, split and kind."""
    found = []
    for trial in view.shown:
        for split in view.splits:
            if split in trial.scores and trial.kind not in ("base", "expert"):
                for task in view.tasks:
                    lines = [*_unsound(view, trial, split, task), *_explained(view, trial, split, task)]
                    found += [{"trial": trial.number, "task": task, "split": split, "text": line} for line in lines]
    return found


def flat_scales(view: View) -> list[str]:
    """Return a line for each task on whose normalised scores nobody should rely."""
    return [f"{scale}: read its own scores." for scale in doubtful_scales(view.record)]


def failures(view: View) -> list[dict[str, Any]]:
    """Return how many candidates failed in which way, the most frequent first, with the first one's message."""
    kinds: dict[str, list[str]] = {}
    for trial in view.trials:
        if trial.failure is not None:
            kinds.setdefault(trial.failure.kind, []).append(trial.failure.message)
    rows = [{"kind": kind, "count": len(found), "example": found[0]} for kind, found in kinds.items()]
    return sorted(rows, key=lambda row: (-int(str(row["count"])), str(row["kind"])))


def _unsound(view: View, trial: Trial, split: Split, task: str) -> list[str]:
    base = view.trials[0].scores.get(split, {}).get(task)
    health = trial.scores[split][task].health
    lines = []
    for name, word in _WORDS.items():
        rate, usual = getattr(health, name), getattr(base.health, name) if base else 0.0
        if rate >= NOTABLE and rate > usual:
            lines.append(f"{100 * rate:.0f} % of the answers are {word} (base: {100 * usual:.0f} %)")
    return lines


def _explained(view: View, trial: Trial, split: Split, task: str) -> list[str]:
    parent = view.parents[split].get(task)
    if parent is None:
        return []
    gain = trial.scores[split][task].gain_over(parent.scores[split][task])
    if not gain.explained:
        return []
    return [
        f"of the gain of {gain.total:+.3g} over {parent.name}, {gain.health:+.3g} is health, not knowledge: there the "
        "expert's answers were cut off, empty, looping or in the wrong form"
    ]
