"""Weights & Biases, online or into files that `wandb sync` sends later."""

from collections.abc import Mapping
from typing import Any

from evomerge.errors import UsageError
from evomerge.reporting.trackers.base import Run, library

MODES = ("online", "offline")


class WandB:
    """A run in a W&B project.

    Args:
        project, entity: where it is shown; None as the entity: the user's default.
        mode: "online" or "offline".
        folder: where its files go; None: `wandb` in the run's directory.
    """

    def __init__(
        self,
        *,
        project: str = "evomerge",
        entity: str | None = None,
        mode: str = "online",
        folder: str | None = None,
    ) -> None:
        if mode not in MODES:
            raise UsageError(f"tracker.options.mode: {mode!r} is none of {', '.join(MODES)}")
        self.project, self.entity, self.mode, self.folder = project, entity, mode, folder
        self._wandb = library("wandb", "wandb")
        self._run: Any = None

    def start(self, run: Run) -> None:
        """Begin, or go on with, the run; `UsageError` where nobody is logged in, for nobody may be there to ask."""
        if self.mode == "online" and not self._wandb.login(prompt=False):
            raise UsageError("tracker=wandb: nobody is logged in; `wandb login`, or tracker.options.mode=offline")
        self._run = self._wandb.init(
            project=self.project,
            entity=self.entity,
            mode=self.mode,
            dir=str(self.folder or run.folder),
            id=run.id,
            name=run.name,
            config=dict(run.settings),
            resume="allow",
            settings=self._wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take note of numbers."""
        self._run.log(dict(values), step=step)

    def end(self) -> None:
        """Send, or write out, what is waiting."""
        self._run.finish()
