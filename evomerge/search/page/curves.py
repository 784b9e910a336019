"""How a search went: the best so far and the hypervolume so far, against candidates, items and seconds.

Both are of what scores are worth as judged at the end, with the luck of the best of many taken out, so that a curve
ends where the front lies; raw scores would rise by luck alone. This file knows nothing about how curves are drawn.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.optimizers.scalarization import shortfall
from evomerge.search.baselines import RIVALS
from evomerge.search.page.numbers import short
from evomerge.search.page.view import View
from evomerge.search.record import Trial
from evomerge.search.results import by_estimate

Array = npt.NDArray[np.float64]

BASELINES = {"base": "base", "expert": "best expert", **RIVALS}


def curves(view: View) -> dict[str, list[Any]]:
    """Return one entry a scored trial, in the order of results: numbers, items and seconds spent, best, hypervolume.

    Best and hypervolume are of candidates that were scored to the end (where a race stopped all: of these), None
    before the first. What lies below a floor covers nothing, and is the best only as long as all do.
    """
    told = [view.record.trials[number] for what, number in view.record.order if what == "tell"]
    counted = {trial.number for trial in view.record.candidates if trial.complete} or {
        trial.number for trial in view.record.candidates
    }
    found: dict[str, list[Any]] = {key: [] for key in ("number", "items", "seconds", "best", "hypervolume")}
    items, seconds = 0, 0.0
    best: tuple[float, float] | None = None
    covered = Covered(len(view.scales))
    for trial in told:
        if "search" not in trial.scores:
            continue
        items += sum(score.items for score in trial.scores["search"].values())
        seconds += trial.seconds
        if trial.number in counted:
            lacking, point = _place(view, trial)
            best = max(best or (-lacking, -np.inf), (-lacking, view.worth[trial.number].joined[0]))
            if lacking == 0.0:
                covered.add(point)
        row = (trial.number, items, short(seconds), best and short(best[1]), best and short(covered.volume))
        for column, value in zip(found.values(), row, strict=True):
            column.append(value)
    return found


def baseline_lines(view: View) -> list[dict[str, Any]]:
    """Return what the base and the best of each kind of baseline are worth, joined."""
    lines = []
    for kind, title in BASELINES.items():
        scored = [trial for trial in view.record.of_kind(kind) if trial.number in view.worth]
        for best in by_estimate(view.record, scored, view.worth)[:1]:
            lines.append({"name": title, "joined": short(view.worth[best.number].joined[0])})
    return lines


class Covered:
    """The hypervolume of points above the origin, as they come in.

    Args:
        objectives: how many coordinates a point has.
    """

    def __init__(self, objectives: int) -> None:
        from pymoo.indicators.hv import HV  # here: it takes a while to load

        self._exact = HV(ref_point=np.zeros(objectives))  # in compiled code, for as many points as a search has
        self._front: Array = np.zeros((0, objectives))
        self.volume = 0.0

    def add(self, point: Array) -> None:
        """Take in one more point; what lies at or below the origin in some coordinate covers nothing."""
        if not (point > 0).all() or (self._front >= point).all(axis=1).any():
            return
        self._front = np.vstack([self._front[~(self._front <= point).all(axis=1)], point])
        self.volume = float(self._exact(-self._front))


def _place(view: View, trial: Trial) -> tuple[float, Array]:
    """How far a trial lies below the floors, and its place above the base on the normalised scales."""
    means = [view.worth[trial.number].tasks[scale.name][0] for scale in view.scales]
    above = [
        scale.normalise(mean) - scale.normalise(scale.low or 0.0)
        for scale, mean in zip(view.scales, means, strict=True)
    ]
    return shortfall(view.scales, means), np.array(above)
