"""trackio: numbers in a local database, with a dashboard of its own."""

import contextlib
import io
from collections.abc import Mapping

from evomerge.reporting.trackers.base import Run, library


class Trackio:
    """A run in a trackio project.

    Args:
        project: its name.
        space: the Hugging Face Space that shows it, None for this machine only.
    """

    def __init__(self, *, project: str = "evomerge", space: str | None = None) -> None:
        self.project, self.space = project, space
        self._trackio = library("trackio", "trackio")

    def start(self, run: Run) -> None:
        """Begin, or go on with, the run."""
        # it has no ids of its own to go on by, so the id is part of the name
        name = f"{run.name}-{run.id}"
        with _silence():
            self._trackio.init(
                project=self.project,
                name=name,
                space_id=self.space,
                config=dict(run.settings),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take note of numbers."""
        with _silence():
            self._trackio.log(dict(values), step=step)

    def end(self) -> None:
        """Write out what is waiting."""
        with _silence():
            self._trackio.finish()


def _silence() -> contextlib.redirect_stdout[io.StringIO]:
    """Keep its greetings off the terminal."""
    return contextlib.redirect_stdout(io.StringIO())
