"""Export: the merged model as a transformers directory, verified bit for bit before it gets its name.

Everything is written into a hidden directory beside the target (`draft.py`) and renamed at the end, so that a full disk
or a kill leaves no half model under the final name. This file knows nothing about live models, scores or model cards.
"""

import hashlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from evomerge.checkpoints import ModelPool, file_sha256
from evomerge.checkpoints.checkpoint import INDEX, WEIGHTS
from evomerge.checkpoints.header import read_header
from evomerge.draft import open_draft
from evomerge.errors import UsageError, WorkError
from evomerge.merging.fingerprint import combine, fingerprint, to_text
from evomerge.merging.methods.reductions import spans
from evomerge.merging.safetensors_file import SafetensorsWriter
from evomerge.merging.stream import MergeStream
from evomerge.merging.tensors import TORCH_DTYPES
from evomerge.recipes import Recipe

#: A file of weights does not exceed this many bytes unless told otherwise: 5 GB.
SHARD_BYTES = 5 * 10**9
#: The key of a safetensors file's metadata that holds the recipe as JSON.
RECIPE_KEY = "evomerge_recipe"
# Elements that are read back at a time.
_READ = 1 << 22
# What config.json says about tokens, which goes with the tokenizer.
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes:
        path: the directory, under its final name.
        files: file name -> SHA-256, sorted.
        fingerprint: of all tensors, in the recipe's dtype.
        parameters: the number of weights.
    """

    path: Path
    files: dict[str, str]
    fingerprint: str
    parameters: int


def export(
    recipe: Recipe,
    out_dir: str | Path,
    *,
    pool: ModelPool | None = None,
    threads: int = 1,
    max_shard_bytes: int = SHARD_BYTES,
    tokenizer_from: str | None = None,
    describe: Callable[[ExportReport], Mapping[str, str]] | None = None,
    expected_fingerprint: str | None = None,
) -> ExportReport:
    """Build a recipe and write it as a model directory that transformers loads.

    The bytes depend on the recipe and the models alone, not on the number of threads. What killed exports to the same
    name have left behind is removed first.

    Args:
        recipe: what to build.
        out_dir: a directory that does not exist or is empty.
        pool: the models, where they are open already.
        threads: how many tensors to build at the same time.
        max_shard_bytes: a file of weights does not exceed this (unless one tensor does).
        tokenizer_from: label of the expert whose tokenizer, chat template and generation config to take; None: the
            base's.
        describe: given what was written, returns the texts to write beside it (a model card, say): file name -> text.
        expected_fingerprint: what the merge had when it was scored.

    Raises `UsageError` for a recipe that cannot be built or a directory that is not empty; `WorkError` if the merge
    differs from what is expected, its weights come out infinite or NaN, or the disk refuses or has no room.
    """
    out = Path(out_dir).absolute()
    _refuse_occupied(out)
    pool = pool or ModelPool.open(recipe.base, recipe.experts, check_weights=False, vocabulary=recipe.vocabulary)
    if tokenizer_from is not None and tokenizer_from not in pool.experts:
        raise UsageError(f"tokenizer of {tokenizer_from!r}: no such expert; there are {', '.join(pool.experts)}")
    merging = MergeStream(recipe, pool)
    parameters = sum(math.prod(pool.shape(name)) for name in pool.layout.tensors)
    try:
        with open_draft(out) as draft:
            _refuse_full(draft, parameters * TORCH_DTYPES[recipe.dtype].itemsize)
            value, weights = _write_weights(draft, merging, threads, max_shard_bytes)
            if expected_fingerprint is not None and to_text(value) != expected_fingerprint:
                raise WorkError(
                    f"the merge has fingerprint {to_text(value)}, but {expected_fingerprint} was expected: the models "
                    "or evomerge changed since it was scored; nothing was written"
                )
            hashes = _read_back(draft, weights, value, threads)
            _write_companions(draft, recipe, pool, tokenizer_from or "")
            report = ExportReport(out, _all_hashes(draft, hashes), to_text(value), parameters)
            for name, text in (describe(report) if describe else {}).items():
                (draft / name).write_text(text, encoding="utf-8")
            report = replace(report, files=_all_hashes(draft, hashes))
            for name in report.files.keys() - hashes.keys():
                _sync(draft / name)
            _sync(draft)
            draft.rename(out)
            _sync(out.parent)
    except OSError as error:
        raise WorkError(f"cannot write {out}: {error.strerror or error}; nothing was left there") from None
    return report


def _all_hashes(draft: Path, weights: Mapping[str, str]) -> dict[str, str]:
    """Return file name -> SHA-256 of all files, those of the weights being known."""
    beside = (path for path in draft.rglob("*") if path.is_file() and path.name not in weights)
    hashes = {path.relative_to(draft).as_posix(): file_sha256(path) for path in beside}
    return dict(sorted({**weights, **hashes}.items()))


def _refuse_full(draft: Path, needed: int) -> None:
    """Raise `WorkError` where the disk says that it has no room for so many bytes."""
    disk = shutil.disk_usage(draft)
    if disk.total and needed > disk.free:  # some network file systems say 0 for "I do not know"
        sizes = f"the weights take {needed / 1e6:,.1f} MB, and {disk.free / 1e6:,.1f} MB are free"
        raise WorkError(f"cannot write to {draft.parent}: {sizes}; nothing was left there")


def _refuse_occupied(out: Path) -> None:
    if out.is_dir() and not out.is_symlink():
        try:
            if not any(out.iterdir()):
                return
        except OSError as error:
            raise WorkError(f"cannot read {out}: {error.strerror}") from None
        raise UsageError(f"{out} is not empty; give a directory that does not exist or is empty")
    if os.path.lexists(out):
        raise UsageError(f"{out} exists and is not a directory; give another name")


def _write_weights(
    draft: Path, merging: MergeStream, threads: int, max_shard_bytes: int
) -> tuple[int, dict[str, list[str]]]:
    """Write the shards and their index; return the fingerprint of all tensors, and file -> tensors."""
    recipe, pool = merging.recipe, merging.pool
    dtype = TORCH_DTYPES[recipe.dtype]
    metadata = {"format": "pt", RECIPE_KEY: json.dumps(recipe.to_dict(), sort_keys=True)}
    shapes = {name: pool.shape(name) for name in pool.layout.tensors}
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    shards = _shards(sizes, max_shard_bytes)
    total = 0
    for file, names in shards.items():
        with SafetensorsWriter(draft / file, {name: shapes[name] for name in names}, dtype, metadata=metadata) as out:
            total = combine(total, merging.merge_all(names, out.write, threads=threads))
    if len(shards) > 1:
        index = {
            "metadata": {"total_size": sum(sizes.values())},
            "weight_map": {name: file for file, names in shards.items() for name in names},
        }
        _write_json(draft / INDEX, index)
    return total, shards


def _shards(sizes: dict[str, int], max_bytes: int) -> dict[str, list[str]]:
    """Divide tensors, in their order, over files as transformers names them."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if size > room or not shards:
            shards.append([])
            room = max_bytes
        shards[-1].append(name)
        room -= size
    if len(shards) == 1:
        return {WEIGHTS: shards[0]}
    return {f"model-{i:05d}-of-{len(shards):05d}.safetensors": names for i, names in enumerate(shards, 1)}


def _write_companions(draft: Path, recipe: Recipe, pool: ModelPool, tokenizer_from: str) -> None:
    config = {k: v for k, v in pool.config.items() if k not in ("_name_or_path", "torch_dtype", "dtype")}
    if tokenizer_from:
        own = pool.experts[tokenizer_from].config
        config |= {key: own[key] for key in _TOKENS if key in own}
    _write_json(draft / "config.json", {**config, "dtype": recipe.dtype})
    pool.save_tokenizer(draft, tokenizer_from)
    (draft / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")


def _read_back(draft: Path, weights: dict[str, list[str]], value: int, threads: int) -> dict[str, str]:
    """Hold what the files say against what was built; return the SHA-256 of each."""
    with ThreadPoolExecutor(threads) as executor:
        results = list(executor.map(lambda file: _read_file(draft / file), weights))
    if combine(*(found for _, found in results)) != value:
        raise WorkError(f"what was written to {draft.parent} reads back differently; the disk may be failing")
    return {file: digest for file, (digest, _) in zip(weights, results, strict=True)}


def _read_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 of a safetensors file and the fingerprint of its tensors, in one pass."""
    entries = sorted(read_header(path).items(), key=lambda item: item[1].start)
    digest, total = hashlib.sha256(), 0
    with path.open("rb") as file:
        digest.update(file.read(entries[0][1].start))
        for name, entry in entries:
            for first, last in spans(math.prod(entry.shape), _READ):
                data = bytearray(file.read((last - first) * entry.dtype.itemsize))
                digest.update(data)
                total = combine(total, fingerprint(name, torch.frombuffer(data, dtype=entry.dtype), first=first))
        digest.update(file.read())
    return digest.hexdigest(), total


def _write_json(path: Path, data: object) -> None:
    path.write_text(json.dumps(data, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _sync(path: Path) -> None:
    """See a file, or the names in a directory, onto the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
