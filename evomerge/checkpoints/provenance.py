"""Where a model that was read came from: the commit of a hub model, and what the bytes of its files are.

This file knows nothing about what a model is for, nor about licences.
"""

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from evomerge.checkpoints.checkpoint import file_sha256
from evomerge.checkpoints.model import Model
from evomerge.checkpoints.pool import ModelPool

_COMMIT = re.compile(r"[0-9a-f]{40}")
_CACHED = "models--"
# Small files that decide what a model is, beside its weights.
_ALSO = ("config.json", "tokenizer.json", "tokenizer.model")


@dataclass(frozen=True)
class Provenance:
    """One model as it was read.

    Attributes:
        reference: as it was given.
        path: the directory it was read from.
        repository: `org/name` on the hub, None for a directory that is no part of the hub's cache.
        revision: the commit of the hub that was read, None where there is none.
        files: name -> SHA-256 of the files that decide its weights, and of config and tokenizer; sorted.
    """

    reference: str
    path: Path
    repository: str | None
    revision: str | None
    files: Mapping[str, str]


def trace(pool: ModelPool, *, threads: int = 1) -> dict[str, Provenance]:
    """Return label -> provenance of base (label `""`) and experts; reads every byte of them."""
    models: dict[str, Model] = {"": pool.base, **pool.experts}
    files = [(label, name) for label, model in models.items() for name in _files(model)]
    with ThreadPoolExecutor(threads) as executor:
        hashes = list(executor.map(lambda place: file_sha256(models[place[0]].path / place[1]), files))
    found = dict(zip(files, hashes, strict=True))
    return {
        label: Provenance(
            pool.references[label],
            model.path,
            *_on_hub(model.path),
            {name: found[label, name] for name in _files(model)},
        )
        for label, model in models.items()
    }


def _files(model: Model) -> list[str]:
    return sorted({*model.files, *(name for name in _ALSO if (model.path / name).is_file())})


def _on_hub(path: Path) -> tuple[str | None, str | None]:
    """Return repository and commit of a snapshot in the hub's cache: `models--ORG--NAME/snapshots/COMMIT`."""
    commit, snapshots = path.name, path.parent
    folder = snapshots.parent.name
    if snapshots.name != "snapshots" or not folder.startswith(_CACHED) or not _COMMIT.fullmatch(commit):
        return None, None
    return folder.removeprefix(_CACHED).replace("--", "/"), commit
