"""Whether the best found beats what one has without a search: item by item, on the split farthest from the search.

The figures are those of the run's own report (`search/report.py`), where its report split has been opened; before that
they are of the selection split, on which the best was chosen. This file knows nothing about how they are shown.
"""

from typing import Any

from evomerge.evaluation.types import SPLITS
from evomerge.reporting.statistics import holm, normalised_difference
from evomerge.search.baselines import RIVALS
from evomerge.search.page.numbers import short
from evomerge.search.page.view import View
from evomerge.search.results import best_expert, best_of


def versus(view: View) -> dict[str, Any] | None:
    """Return the best found minus each rival, mean normalised, with a 95 % interval and p adjusted for their number.

    Rivals are the best expert and the best uniform, untuned and random merge by the selection split. None before the
    best and a rival have been scored there.
    """
    best, experts = view.best, [trial.scores for trial in view.record.of_kind("expert")]
    if best is None:
        return None
    found = {title: best_of(view.record, kind) for kind, title in RIVALS.items()}
    if all("selection" in scores for scores in experts):
        found = {"best expert": best_expert(view.record, "selection"), **found}
    rivals = {title: trial for title, trial in found.items() if trial is not None}
    if not rivals:
        return None
    split = next(s for s in reversed(SPLITS) if all(s in trial.scores for trial in (best, *rivals.values())))
    differences = [
        normalised_difference(
            {task: (best.scores[split][task].array, trial.scores[split][task].array) for task in view.tasks},
            view.anchors,
            weights=view.weights,
        )
        for trial in rivals.values()
    ]
    adjusted = holm([difference.p for difference in differences])
    return {
        "trial": best.number,
        "split": split,
        "rivals": [
            {
                "title": title,
                "trial": trial.number,
                **{key: short(getattr(difference, key)) for key in ("mean", "low", "high")},
                "p": short(p),
            }
            for (title, trial), difference, p in zip(rivals.items(), differences, adjusted, strict=True)
        ],
    }
