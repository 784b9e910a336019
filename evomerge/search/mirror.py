"""The Optuna mirror of a run, `study.log`: `optuna-dashboard RUN/study.log` shows a search while it goes on.

It is derived from the record alone and can be deleted at any time: the next start of the run makes it anew. This file
knows nothing about Optuna's files (`reporting/mirror.py` does).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from evomerge.recipes.dimension import Dimension
from evomerge.reporting.mirror import MirrorTrial, Parameter, StudyFile
from evomerge.search.record import Record, Trial
from evomerge.search.results import joined_interval, selected

#: Values of parameters that the mirror shows at most: the dashboard shows no more in reasonable time, Optuna takes
#: milliseconds for a trial of many parameters, and each trial is a wait for the disk.
MOST = 100_000


class Mirror:
    """An observer that keeps the mirror; of a search of very many trials it shows the first, `MOST` values in all.

    Args:
        path: the journal file.
        name: of the study.
        stages: the dimensions of each stage's space.
    """

    def __init__(self, path: Path, *, name: str, stages: Sequence[Sequence[Dimension]]) -> None:
        self._path, self._name, self._stages = path, name, stages
        self._file: StudyFile | None = None
        self._seen = self._shown = 0

    def __call__(self, record: Record) -> None:
        """Append the trials that have been scored, or have failed, since the last time."""
        try:
            self._append(record)
        except Exception:
            self._file, self._seen, self._shown = None, 0, 0  # so that the next call looks at what is in the file
            raise

    def _append(self, record: Record) -> None:
        new = [record.trials[number] for what, number in record.order[self._seen :] if what == "tell"]
        new = new[: MOST // max(map(len, self._stages)) - self._shown]
        if self._file is None:
            tasks = next((list(trial.scores["search"]) for trial in new if "search" in trial.scores), None)
            if tasks is None:
                return  # before the first score nobody knows the objectives
            told = [mirrored(record, trial, self._stages) for trial in new]
            self._file = StudyFile(self._path, name=self._name, objectives=tasks, trials=told)
        else:
            for trial in new:
                self._file.add(mirrored(record, trial, self._stages))
        self._seen, self._shown = len(record.order), self._shown + len(new)

    def close(self, record: Record) -> None:
        """Note what came after the search: scores on the selection split, and how often the report was opened."""
        if self._file is None:
            return
        if chosen := selected(record):
            self._file.note("selection", {str(t.number): _selection(record, t) for t in chosen})
            self._file.note("best", chosen[0].number)
        self._file.note("openings of the report", record.openings)


def mirrored(record: Record, trial: Trial, stages: Sequence[Sequence[Dimension]]) -> MirrorTrial:
    """Return a finished trial of a record as the mirror shows it."""
    scores = trial.scores.get("search")
    notes: dict[str, Any] = {
        "kind": trial.kind,
        "name": trial.name,
        "stage": trial.stage,
        "method": trial.recipe.method,
        "recipe": trial.recipe.hash,
        "fingerprint": trial.fingerprint,
        "seconds": trial.seconds,
    }
    if trial.failure is not None:
        notes |= {"failure": trial.failure.kind, "message": trial.failure.message}
    if scores:
        notes |= {
            "items": sum(score.items for score in scores.values()),
            "tokens": sum(score.tokens for score in scores.values()),
            "errors": {task: score.error for task, score in scores.items()},
        }
    if trial.beaten_by is not None:
        notes["beaten by"] = trial.beaten_by
    settings = (record.begin or {}).get("objectives", {})
    floors = {task: settings.get(task, {}).get("floor") for task in scores or {}}
    return MirrorTrial(
        number=trial.number,
        values=None if scores is None or trial.failure else tuple(score.mean for score in scores.values()),
        stopped=trial.beaten_by is not None,
        parameters={} if trial.vector is None else _parameters(trial, stages[trial.stage]),
        constraints={
            f"{task} at least {floor:g}": floor - scores[task].mean
            for task, floor in floors.items()
            if floor is not None and scores is not None
        },
        notes=notes,
        seconds=trial.seconds,
    )


def _parameters(trial: Trial, dimensions: Sequence[Dimension]) -> dict[str, Parameter]:
    """Return the values of the dimensions that the trial's method knows."""
    assert trial.vector is not None
    method = next((d.value(u) for d, u in zip(dimensions, trial.vector, strict=True) if d.parameter == "method"), None)
    return {
        d.name: Parameter(d.value(u), d.low, d.high, d.choices)
        for d, u in zip(dimensions, trial.vector, strict=True)
        if not d.methods or method is None or method in d.methods
    }


def _selection(record: Record, trial: Trial) -> dict[str, Any]:
    joined = joined_interval(record, trial, "selection")
    return {
        "scores": {task: score.mean for task, score in trial.scores["selection"].items()},
        "mean normalised": [joined.mean, joined.low, joined.high],
    }
