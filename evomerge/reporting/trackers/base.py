"""What a tracker is: somebody who is told the numbers of a run, step by step. This file knows no tracker."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol

from evomerge.errors import UsageError

Setting = str | int | float | bool


@dataclass(frozen=True)
class Run:
    """The run that a tracker is told about.

    Attributes:
        id: unique, the same whenever the run goes on.
        name: for people.
        folder: the run's own directory, for trackers that write files.
        settings: its configuration, flat, by dotted key.
        resumed: it was tracked before by the same tracker under the same id.
    """

    id: str
    name: str
    folder: Path
    settings: Mapping[str, Setting]
    resumed: bool = False


class Tracker(Protocol):
    """One way to follow a run from elsewhere. Its library is imported, and its options are checked, when it is made.

    Whatever goes wrong later is an exception like any other; who calls sees to it that the run goes on.
    """

    def start(self, run: Run) -> None:
        """Begin, or go on with, a run; called once, before anything else."""

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take note of numbers by name; steps never descend, and no name comes twice at one."""

    def end(self) -> None:
        """Write out what is still waiting; nothing is called afterwards."""


def library(module: str, extra: str) -> ModuleType:
    """Import a tracker's library; `UsageError`, with the extra that brings it, where it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise UsageError(
            f"tracker={extra}: {module.split('.')[0]} is missing; pip install 'evomerge[{extra}]', or tracker=none"
        ) from None
