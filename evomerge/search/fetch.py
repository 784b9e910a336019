"""Bringing the models and data sets of a configuration into this machine's caches, by opening all that a search opens.

Models come at the revision that the configuration names: weights as safetensors, settings, tokenizer, and nothing that
could run. Data sets come as their task reads them. This file knows nothing about how a search goes on.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from evomerge.checkpoints.reference import ModelReference, resolve
from evomerge.search.config import SearchConfig
from evomerge.search.opening import open_pool, open_tasks


def fetch(config: SearchConfig, say: Callable[[str], None]) -> None:
    """Open the models and tasks of a configuration, fetching what is not here; with the hub offline, just open them.

    Args:
        config: the configuration.
        say: is told what is here now, a line each.

    Raises `UsageError` for what cannot be had or is not whole.
    """
    models = config.models
    for label, text in {"base": models.base, **models.experts}.items():
        reference = ModelReference.parse(text)
        path = resolve(reference)
        say(f"model {label}: {reference}, {_size(path)}{_remark(reference, path)}")
    pool = open_pool(config, check_weights=False)
    tasks, items = open_tasks(config, pool)
    for name in tasks:
        counts = ", ".join(f"{len(by_task[name])} {split}" for split, by_task in items.items())
        files = config.tasks.get(name, {}).get("data_files")
        say(f"task {name}: items: {counts}" + (f"; from files that the nodes must see too: {files}" if files else ""))


def caches() -> Mapping[str, str]:
    """Return the variables that name the caches where things were put, and those by which nobody asks for more."""
    import datasets
    from huggingface_hub import constants

    return {
        "HF_HUB_CACHE": str(constants.HF_HUB_CACHE),
        "HF_DATASETS_CACHE": str(datasets.config.HF_DATASETS_CACHE),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
    }


def _size(path: Path) -> str:
    size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.1f} MB"


def _remark(reference: ModelReference, path: Path) -> str:
    """Say what a person should know of where a model is."""
    if reference.kind == "directory":
        return f"; a directory that the nodes must see too: {path.resolve()}"
    if reference.kind == "hub" and reference.revision != path.name:  # in the hub's cache a folder a commit
        return f"; {reference.revision or 'main'} is {path.name} today, write @{path.name} to keep that"
    return ""
