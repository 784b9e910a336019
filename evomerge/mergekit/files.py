"""Files of mergekit's on disk: read, told apart, turned into the text of a recipe or an experiment, and written.

The layout of the models is read from the first that is at hand: a directory, the zoo, the hub's cache. Nothing is
fetched. This file knows nothing about the command line.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from evomerge.checkpoints import Checkpoint, ModelPool, ModelReference, resolve
from evomerge.errors import UsageError, WorkError
from evomerge.mergekit.document import load_yaml
from evomerge.mergekit.export import to_mergekit
from evomerge.mergekit.genome import base_of_genome, from_genome, is_genome
from evomerge.mergekit.reading import from_mergekit, models_of, needs_layout
from evomerge.merging.settings import check
from evomerge.recipes import Layout, Recipe


def import_file(path: Path, *, base: str | None = None) -> tuple[str, list[str]]:
    """Return the text of a recipe or, from a mergekit-evolve genome, of an experiment; and what is not carried over.

    Args:
        path: a YAML file of mergekit's.
        base: reference of the base, for a configuration that names none.

    Raises `UsageError`, naming the file, for what cannot be imported.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from None
    try:
        data = load_yaml(text, "mergekit")
        return _experiment(data, path.stem) if is_genome(data) else _recipe(data, base)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def _recipe(data: Any, base: str | None) -> tuple[str, list[str]]:
    models = [*([base] if base else []), *models_of(data)]
    model = _first_at_hand(models)
    if model is None and needs_layout(data):
        raise UsageError(
            f"it has slices, gradients or filters, for which the models' tensor names are needed, but none of its "
            f"models is here ({models[0]}, ...); fetch one, or correct the paths"
        )
    layout = None if model is None else Layout.of(model.names)
    dtype = None if model is None else str(model.dtype(model.names[0])).removeprefix("torch.")
    recipe, notes = from_mergekit(data, layout, base=base, dtype=dtype)
    if layout is not None:
        check(recipe, layout)
    return recipe.to_yaml(), notes


def _experiment(data: Any, name: str) -> tuple[str, list[str]]:
    model = _first_at_hand([base_of_genome(data)])
    experiment, notes = from_genome(data, None if model is None else Layout.of(model.names), name=name)
    head = (
        f"# @package _global_\n# Imported from mergekit-evolve. As DIR/experiment/{name}.yaml it is searched by\n"
        f"#   evomerge search --config-dir DIR experiment={name}\n"
    )
    return head + _comments(notes) + _dump(experiment), notes


def export_file(recipe: Recipe, path: Path) -> list[str]:
    """Write a recipe as a configuration for mergekit-yaml; return what it does not carry over.

    Raises `UsageError` for a recipe that cannot be built, or that mergekit cannot be told.
    """
    pool = ModelPool.open(recipe.base, recipe.experts, check_weights=False, vocabulary=recipe.vocabulary)
    check(recipe, pool.layout)
    text, notes = export_text(recipe, pool.layout, path.name)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{path}: cannot be written: {error.strerror}") from None
    return notes


def export_text(recipe: Recipe, layout: Layout, name: str) -> tuple[str, list[str]]:
    """Return the text of a configuration for mergekit-yaml, and what it does not carry over.

    Args:
        recipe: one that can be built for models of this layout.
        layout: the tensors of the models.
        name: of the file that it will be in.

    Raises `UsageError` for a recipe that mergekit cannot be told.
    """
    data, notes = to_mergekit(recipe, layout)
    head = f"# Written by evomerge from recipe {recipe.hash}. To build it: mergekit-yaml {name} OUT_DIR\n"
    return head + _comments(notes) + _dump(data), notes


def _comments(notes: Iterable[str]) -> str:
    return "".join(f"# Note: {note}\n" for note in notes)


def _dump(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


def _first_at_hand(references: Iterable[str]) -> Checkpoint | None:
    """Open the first of some models that is on this machine, its headers only; None if none is."""
    for reference in references:
        path = _path(reference)
        if path is not None:
            try:
                return Checkpoint.open(path)
            except UsageError:
                continue  # an adapter, or half a model: the next one will do
    return None


def _path(reference: str) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        parsed = ModelReference.parse(reference)
        if parsed.kind != "hub":
            return resolve(parsed)
        return Path(snapshot_download(parsed.name, revision=parsed.revision, local_files_only=True))
    except (UsageError, LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        return None
