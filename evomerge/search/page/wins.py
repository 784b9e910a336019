"""Items that a merge won and lost against the best parent, with the texts of some.

Counts come from the ledger; texts from `about.json` (questions and right answers) and the outcome store (what the
models said). This file knows nothing about how they are shown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evomerge.evaluation import OutcomeStore
from evomerge.evaluation.types import SPLITS, Outcome, Split
from evomerge.search.directory import RunDirectory, outcomes_of
from evomerge.search.page.about import cut
from evomerge.search.page.numbers import short
from evomerge.search.page.view import View
from evomerge.search.record import TaskScore, Trial

#: Merges whose texts are shown at most, and items won and lost of each task.
MERGES, EXAMPLES = 6, 4


def wins(view: View) -> list[dict[str, Any]]:
    """Return for each shown merge, split and task how many items it and the best parent got right.

    Won and lost: the merge's score is higher, or lower; both and neither: equal and above 0, or not. Texts are those of
    the best merge and the finalists after it, on the split that is farthest from the search among theirs.
    """
    merges = [trial for trial in view.shown if trial.kind not in ("base", "expert")]
    told = {trial.number for trial in view.selected[:MERGES]}
    answers = _Answers(view)
    found = []
    for trial in merges:
        splits = [split for split in SPLITS if split in trial.scores]
        for split in splits:
            for task in view.tasks:
                parent = view.parents[split].get(task)
                if parent is not None:
                    row = _counts(trial.scores[split][task], parent.scores[split][task])
                    wanted = trial.number in told and split == splits[-1]
                    examples = _examples(view, answers, trial, parent, split, task) if wanted else []
                    found.append(
                        {
                            "trial": trial.number,
                            "task": task,
                            "split": split,
                            "parent": parent.name,
                            **row,
                            "examples": examples,
                        }
                    )
    return found


def _counts(mine: TaskScore, parents: TaskScore) -> dict[str, int]:
    counts = {"won": 0, "lost": 0, "both": 0, "neither": 0}
    theirs = parents.by_place
    for place, score in mine.by_place.items():
        if place in theirs:
            counts[_verdict(score, theirs[place])] += 1
    return counts


def _verdict(mine: float, theirs: float) -> str:
    if mine != theirs:
        return "won" if mine > theirs else "lost"
    return "both" if mine > 0 else "neither"


def _examples(
    view: View, answers: "_Answers", trial: Trial, parent: Trial, split: Split, task: str
) -> list[dict[str, Any]]:
    """Return the first items that were won, then the first that were lost; none where the items are not known."""
    items = view.about.items.get(split, {}).get(task, ())
    mine, theirs = trial.scores[split][task].by_place, parent.scores[split][task].by_place
    both = [place for place in mine if place in theirs and place < len(items)]
    chosen = [
        place
        for verdict in ("won", "lost")
        for place in [p for p in both if _verdict(mine[p], theirs[p]) == verdict][:EXAMPLES]
    ]
    return [
        {
            "item": items[place].id,
            "prompt": items[place].text,
            "target": items[place].target,
            "mine": answers.of(trial, task, items[place].id, mine[place]),
            "parents": answers.of(parent, task, items[place].id, theirs[place]),
            "mine_score": short(mine[place]),
            "parents_score": short(theirs[place]),
        }
        for place in chosen
    ]


class _Answers:
    """What the models of a run said, from its outcomes and those of the run that it was forked from."""

    def __init__(self, view: View) -> None:
        directory = RunDirectory(view.path)
        fork = view.config.get("fork_from")
        also = [] if fork is None else [_outcomes(RunDirectory(Path(fork)))]
        self._store = OutcomeStore(outcomes_of(directory, view.config), read_also=[path for path in also if path])
        self._known: dict[str, Mapping[tuple[str, str], Sequence[Outcome]]] = {}

    def of(self, trial: Trial, task: str, item: str, score: float) -> str | None:
        """Return an answer, None if it is not known; of several (scored under other settings) one with this score."""
        if trial.fingerprint is None:
            return None
        if trial.fingerprint not in self._known:
            by_item: dict[tuple[str, str], list[Outcome]] = {}
            for outcome in self._store.of_model(trial.fingerprint):
                by_item.setdefault((outcome.task, outcome.item), []).append(outcome)
            self._known[trial.fingerprint] = by_item
        found = self._known[trial.fingerprint].get((task, item), ())
        answers = [outcome.answer for outcome in found if float(f"{outcome.score:.6g}") == score]
        return cut(answers[0]) if answers else None


def _outcomes(directory: RunDirectory) -> Path | None:
    return outcomes_of(directory, directory.read_config()) if directory.config.exists() else None
