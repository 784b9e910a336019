"""TensorBoard event files."""

from collections.abc import Mapping
from typing import Any

from evomerge.reporting.trackers.base import Run, library


class TensorBoard:
    """A folder of event files.

    Args:
        folder: None: `tensorboard` in the run's directory.
    """

    def __init__(self, *, folder: str | None = None) -> None:
        self.folder = folder
        self._library = library("torch.utils.tensorboard", "tensorboard")
        self._writer: Any = None

    def start(self, run: Run) -> None:
        """Open another file in the folder; TensorBoard reads all of them as one run."""
        self._writer = self._library.SummaryWriter(log_dir=str(self.folder or run.folder / "tensorboard"))
        if not run.resumed:
            lines = [f"    {key}: {value}" for key, value in run.settings.items()]  # Markdown's way to write as it is
            self._writer.add_text("settings", "\n".join(lines))

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take note of numbers."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, global_step=step)
        self._writer.flush()

    def end(self) -> None:
        """Close the file."""
        self._writer.close()
