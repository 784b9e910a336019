"""MLflow, through its client: no global run, no global tracking server."""

import os
import time
from collections.abc import Mapping
from typing import Any

from evomerge.reporting.trackers.base import Run, library

#: The tag by which a run that goes on is found again.
TAG = "evomerge.run"
_LONGEST = 500  # characters of a parameter's value, for servers that take no longer ones
_AT_ONCE = 100  # parameters in a request


class MLflow:
    """A run in an MLflow experiment.

    Args:
        uri: of the tracking server, or `file:FOLDER`; None: what MLFLOW_TRACKING_URI says, else `mlruns` in the run's
            directory.
        experiment: its name.
    """

    def __init__(self, *, uri: str | None = None, experiment: str = "evomerge") -> None:
        self.uri, self.experiment = uri, experiment
        self._mlflow = library("mlflow", "mlflow")
        self._client: Any = None
        self._run = ""

    def start(self, run: Run) -> None:
        """Begin, or go on with, the run."""
        uri = self.uri or os.environ.get("MLFLOW_TRACKING_URI") or (run.folder / "mlruns").absolute().as_uri()
        if uri.startswith("file:"):
            # newer releases refuse to write files unless told that this is meant
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        client = self._client = self._mlflow.MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(self.experiment)
        experiment = known.experiment_id if known else client.create_experiment(self.experiment)
        found = client.search_runs([experiment], filter_string=f"tags.`{TAG}` = '{run.id}'", max_results=1)
        if found:
            self._run = found[0].info.run_id
            client.set_terminated(self._run, status="RUNNING")
            return
        self._run = client.create_run(experiment, run_name=run.name, tags={TAG: run.id}).info.run_id
        settings = [
            self._mlflow.entities.Param(key, str(value)[:_LONGEST])
            for key, value in run.settings.items()
            if value != ""
        ]
        for i in range(0, len(settings), _AT_ONCE):
            client.log_batch(self._run, params=settings[i : i + _AT_ONCE])

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Take note of numbers."""
        now = int(1000 * time.time())
        metrics = [self._mlflow.entities.Metric(name, value, now, step) for name, value in values.items()]
        self._client.log_batch(self._run, metrics=metrics)

    def end(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)
