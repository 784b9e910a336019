"""Trackers: follow a run in trackio, Weights & Biases, MLflow or TensorBoard. `create` makes one by its name."""

from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any

from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.reporting.trackers.base import Run, Setting, Tracker

#: Name -> module of this package and its class, whose arguments are the tracker's options.
TRACKERS = {
    "mlflow": ("mlflow", "MLflow"),
    "tensorboard": ("tensorboard", "TensorBoard"),
    "trackio": ("trackio", "Trackio"),
    "wandb": ("wandb", "WandB"),
}
NONE = "none"

__all__ = ["NONE", "TRACKERS", "Run", "Setting", "Tracker", "create"]


def create(name: str, options: Mapping[str, Any]) -> Tracker | None:
    """Make a tracker; None for the name "none".

    Raises `UsageError` for an unknown name or option, an option of the wrong kind, and a library that is not installed.
    """
    if name not in (NONE, *TRACKERS):
        raise UsageError(f"tracker.name: {name!r} is unknown; {nearest(name, (NONE, *TRACKERS))}")
    if name == NONE:
        refuse_unknown(options, (), "tracker.options")
        return None
    module, kind = TRACKERS[name]
    made = getattr(import_module(f"{__name__}.{module}"), kind)
    refuse_unknown(options, signature(made).parameters, "tracker.options")
    for key, value in options.items():
        if value is not None and not isinstance(value, str):
            raise UsageError(f"tracker.options.{key}: write a text, not {value!r}")
    tracker: Tracker = made(**options)
    return tracker
