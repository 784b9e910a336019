"""What a tracker is told of a search: the scores of every model as it is scored, and the outcome at the end.

`tracker.json` in the run directory says under which id the run is known there and how far it has been told, so that a
run that goes on is told from there on (after a kill between the two, one step may be told twice). This file knows
nothing about any tracker.
"""

import json
import math
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from evomerge.reporting.trackers import Run, Setting, Tracker
from evomerge.search.directory import RunDirectory
from evomerge.search.record import Record, Trial
from evomerge.search.results import front, mean_normalised, selected

VERSION = 1


class Tracking:
    """An observer that tells a tracker.

    Args:
        tracker: the tracker, and the `name` of its kind.
        directory: the run directory, whose name is the run's.
        config: the configuration as plain data.
    """

    def __init__(self, tracker: Tracker, name: str, *, directory: RunDirectory, config: Mapping[str, Any]) -> None:
        self._tracker, self._name, self._directory, self._config = tracker, name, directory, config
        self._id, self._told = "", 0  # how many trials the tracker was told of, in this start or before
        self._gave_up = False
        self._seen = 0
        self._steps = 0
        self._best: float | None = None
        self._failed = 0

    def __call__(self, record: Record) -> None:
        """Tell of the trials that have been scored, or have failed, since the last time."""
        if self._gave_up:
            return
        if not self._id:
            self._gave_up = True  # a server that cannot be reached is not asked again after every model
            self._start()
            self._gave_up = False
        for what, number in record.order[self._seen :]:
            self._seen += 1  # first: what cannot be told is left out, not told later
            if what == "tell":
                self._tell(record, record.trials[number])

    def close(self, record: Record) -> None:
        """Tell how it ended: the chosen candidate's scores on the selection split, and the size of the front."""
        if not self._id:
            return
        best = next(iter(selected(record)), None)
        if best is not None:
            values = {f"selection/{task}": score.mean for task, score in best.scores["selection"].items()}
            values["selection/mean normalised"] = mean_normalised(record, best, "selection")
            # at the last model's step: a run that goes on has the next one for its next model
            self._tracker.log(self._steps, {**values, "front": float(len(front(record)))})
        self._tracker.end()

    def _start(self) -> None:
        known = self._read()
        resumed = known.get("tracker") == self._name
        known_as = str(known["id"]) if resumed else uuid4().hex[:12]
        self._told = int(known["told"]) if resumed else 0
        path = self._directory.path
        self._tracker.start(Run(known_as, path.resolve().name, path, flat(self._config), resumed))
        self._id = known_as
        self._write()

    def _tell(self, record: Record, trial: Trial) -> None:
        self._steps += 1
        self._failed += trial.failure is not None
        values: dict[str, float] = {
            "trial": float(trial.number),
            "seconds": trial.seconds,
            "failed": float(self._failed),
        }
        scores = trial.scores.get("search", {})
        for task, score in scores.items():
            values[f"search/{task}"] = score.mean
            values[f"search/{task}/error"] = score.error
        if scores:
            values["items"] = float(sum(score.items for score in scores.values()))
        # base and all experts come before all others, and with them the scale
        if scores and trial.kind not in ("base", "expert"):
            joined = mean_normalised(record, trial, "search")
            values["mean normalised"] = joined
            if trial.kind == "candidate" and trial.complete:
                self._best = joined if self._best is None else max(self._best, joined)
        if self._best is not None:
            values["best so far"] = self._best
        if self._steps > self._told:
            self._tracker.log(self._steps, {name: value for name, value in values.items() if math.isfinite(value)})
            self._told = self._steps
            self._write()

    def _read(self) -> Mapping[str, Any]:
        try:
            data = json.loads(self._directory.tracker.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) and data.get("version") == VERSION else {}

    def _write(self) -> None:
        data = {"version": VERSION, "tracker": self._name, "id": self._id, "told": self._told}
        self._directory.write_json(self._directory.tracker, data)


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Setting]:
    """Return the leaves of a configuration by dotted key; a list is one leaf, and what is null is left out."""
    found: dict[str, Setting] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found[prefix + key] = json.dumps(value)
        elif value is not None:
            found[prefix + key] = value
    return found
