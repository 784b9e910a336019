"""An Optuna study in a journal file, for optuna-dashboard and for all else that reads such files.

The file is a copy: it is made anew wherever it does not say what its owner says. Others may read it, and write notes
into it, while it grows. This file knows nothing about searches or merges, only about trials with parameters and values.
"""

import json
import logging
import os
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from evomerge.durable import replacing

#: The user attribute by which a trial is known to its owner; Optuna numbers trials in the order in which they came.
NUMBER = "trial"
_LOCK_SUFFIX = ".lock"


@dataclass(frozen=True)
class Parameter:
    """A parameter's value and its range, or its choices."""

    value: float | int | bool | str
    low: float = 0.0
    high: float = 1.0
    choices: tuple[float | int | bool | str, ...] = ()

    @property
    def distribution(self) -> BaseDistribution:
        """The range as Optuna knows it."""
        return CategoricalDistribution(self.choices) if self.choices else FloatDistribution(self.low, self.high)


@dataclass(frozen=True)
class MirrorTrial:
    """A finished trial.

    Attributes:
        number: its owner's number.
        values: one an objective, larger is better; None: it failed.
        stopped: it was stopped early; its values are estimates, and stand among the notes.
        parameters: by name; empty for one that lies outside the space.
        constraints: by name; met where zero or less.
        notes: further facts, plain data, shown beside it.
        seconds: how long it took.
    """

    number: int
    values: tuple[float, ...] | None
    stopped: bool = False
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    constraints: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def frozen(self, begin: datetime) -> FrozenTrial:
        """Return the trial as Optuna knows it, begun at a given time."""
        state = TrialState.FAIL if self.values is None else TrialState.PRUNED if self.stopped else TrialState.COMPLETE
        trial = optuna.trial.create_trial(
            state=state,
            values=self.values if state == TrialState.COMPLETE else None,
            params={name: parameter.value for name, parameter in self.parameters.items()},
            distributions={name: parameter.distribution for name, parameter in self.parameters.items()},
            user_attrs={NUMBER: self.number, **self.notes, **self._estimates},
            constraints=dict(self.constraints),
        )
        trial.datetime_start, trial.datetime_complete = begin, begin + timedelta(seconds=self.seconds)
        return trial

    @property
    def _estimates(self) -> dict[str, list[float]]:
        return {"estimates": list(self.values)} if self.stopped and self.values is not None else {}


class StudyFile:
    """A study in a journal file; one process owns it.

    Times in it are made up, since its owner records none: trials follow one another, each as long as it took.

    Args:
        path: the file; made, or taken over where it holds the study as far as `trials` say.
        name: of the study.
        objectives: names of the values, all to be maximised.
        trials: all trials so far, in the order in which they were finished.
    """

    def __init__(self, path: Path, *, name: str, objectives: Sequence[str], trials: Sequence[MirrorTrial] = ()) -> None:
        study = _open(path, name, objectives, trials)
        if study is None:
            _write(path, name, objectives, trials)
            _drop_stale_lock(path)
            study = optuna.load_study(study_name=name, storage=_storage(path))
        found = study.get_trials(deepcopy=False)
        self._study = study
        self._end = (found[-1].datetime_complete if found else None) or datetime.now()
        for trial in trials[len(found) :]:
            self.add(trial)

    def add(self, trial: MirrorTrial) -> None:
        """Append a finished trial."""
        frozen = trial.frozen(self._end)
        self._study.add_trial(frozen)
        self._end = frozen.datetime_complete or self._end

    def note(self, key: str, value: Any) -> None:
        """Put a fact, plain data, beside the study; nothing is written if it is there already."""
        if self._study.user_attrs.get(key) != value:
            self._study.set_user_attr(key, value)


def _open(path: Path, name: str, objectives: Sequence[str], trials: Sequence[MirrorTrial]) -> optuna.Study | None:
    """Return the study in a file if it is a beginning of these trials, else None."""
    if not path.exists() or not path.read_bytes().endswith(b"\n"):
        return None  # none yet, or its writer died in the middle of a line
    _drop_stale_lock(path)
    try:
        study = optuna.load_study(study_name=name, storage=_storage(path))
        found = study.get_trials(deepcopy=False)
        same = study.metric_names == list(objectives) and len(found) <= len(trials)
        return study if same and all(map(_agree, found, trials)) else None
    except Exception:  # whatever else is in that file is not what belongs there
        return None


def _agree(found: FrozenTrial, trial: MirrorTrial) -> bool:
    wanted = trial.frozen(datetime.now())
    return all(
        getattr(found, what) == getattr(wanted, what)
        for what in ("state", "values", "params", "distributions", "user_attrs", "constraints")
    )


def _write(path: Path, name: str, objectives: Sequence[str], trials: Sequence[MirrorTrial]) -> None:
    """Write a study in one go: a reader sees the old file or the new."""
    lines = _Lines()
    with _silence():
        study = optuna.create_study(
            study_name=name, storage=JournalStorage(lines), directions=["maximize"] * len(objectives)
        )
        study.set_metric_names(list(objectives))
    end = datetime.now() - timedelta(seconds=sum(trial.seconds for trial in trials))
    for trial in trials:
        frozen = trial.frozen(end)
        study.add_trial(frozen)
        end = frozen.datetime_complete or end
    with replacing(path) as temporary:
        temporary.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines.logs))


class _Lines(BaseJournalBackend):  # type: ignore[misc]  # mypy does not follow Optuna
    """A journal in memory: a thousand trials on a disk would be a thousand times locked and synchronised."""

    def __init__(self) -> None:
        self.logs: list[dict[str, Any]] = []

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        yield from self.logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self.logs += logs


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Optuna's log line about a new study, and its warning that names may change, to itself."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)


def _storage(path: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(path)))


def _drop_stale_lock(path: Path) -> None:
    """Remove the lock that a killed writer left; Optuna would wait for it for half a minute.

    A reader who writes a note holds it for milliseconds, so one that is older than a few seconds is nobody's.
    """
    lock = Path(f"{path}{_LOCK_SUFFIX}")
    try:
        age = datetime.now().timestamp() - os.lstat(lock).st_mtime
    except OSError:
        return
    if age > 5:
        lock.unlink(missing_ok=True)
