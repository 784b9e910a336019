"""How models are named in mergekit's files, both ways.

mergekit writes `path`, `org/name@revision` and `model+adapter`, and takes a mapping where a path has a + or @ of its
own. This file knows nothing about what is inside a model, but for whether a directory holds an adapter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.checkpoints.checkpoint import is_adapter
from evomerge.checkpoints.reference import ModelReference, resolve
from evomerge.errors import UsageError, refuse_unknown


@dataclass(frozen=True)
class Named:
    """A model as a file of mergekit's names it: its reference, and that of an adapter on top of it, if any."""

    model: str
    adapter: str | None = None


def to_reference(reference: str, base: str | None = None) -> Any:
    """Return mergekit's form of a model reference.

    Args:
        reference: a directory, `hub/id@revision` or `zoo:name`, which becomes its directory.
        base: reference of the base, for an adapter; None if `reference` cannot be one.
    """
    own = _path(reference)
    lora = base is not None and is_local_adapter(reference)
    model, adapter = (_path(base), own) if lora and base is not None else (own, None)
    if not any(_ambiguous(part) for part in (model, adapter) if part):
        return model if adapter is None else f"{model}+{adapter}"
    paths = {"model": _as_mapping(model)}
    return paths if adapter is None else {**paths, "lora": _as_mapping(adapter)}


def is_local_adapter(reference: str) -> bool:
    """Say whether a reference is a directory here that holds a LoRA adapter."""
    return not reference.startswith("zoo:") and is_adapter(Path(reference).expanduser())


def revision_of(reference: str) -> str | None:
    """Return the hub revision that a reference names, if any."""
    try:
        return ModelReference.parse(reference).revision
    except UsageError:
        return None  # a directory that is not here


def _path(reference: str) -> str:
    return str(resolve(reference)) if reference.startswith("zoo:") else reference


def _ambiguous(path: str) -> bool:
    return "+" in path or path.count("@") > (revision_of(path) is not None)


def _as_mapping(path: str) -> dict[str, str]:
    revision = revision_of(path)
    return {"path": path} if revision is None else {"path": path.removesuffix(f"@{revision}"), "revision": revision}


def from_reference(value: Any, where: str) -> Named:
    """Read mergekit's form of a model reference; `UsageError` if it is none."""
    if isinstance(value, str) and value:
        model, plus, adapter = value.partition("+")
        if not model or (plus and not adapter) or "+" in adapter:
            raise UsageError(f"{where}: {value!r} is no model; mergekit writes path, or model+adapter")
        return Named(model, adapter or None)
    if isinstance(value, Mapping):
        refuse_unknown(value, ("model", "lora", "override_architecture"), where)
        if value.get("override_architecture") is not None:
            raise UsageError(f"{where}: override_architecture has no counterpart; edit the model's config.json instead")
        model, lora = _from_path(value.get("model"), where), value.get("lora")
        return Named(model, None if lora is None else _from_path(lora, where))
    raise UsageError(f"{where}: {value!r} is no model; give its directory or hub id")


def _from_path(value: Any, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    if isinstance(value, Mapping):
        refuse_unknown(value, ("path", "revision"), where)
        path, revision = value.get("path"), value.get("revision")
        if isinstance(path, str) and path and isinstance(revision, str | None):
            return path if revision is None else f"{path}@{revision}"
    raise UsageError(f"{where}: {value!r} is no model; give its directory or hub id")
