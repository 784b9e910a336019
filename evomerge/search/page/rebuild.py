"""Writing the `about.json` of a run anew, where its models and data sets are at hand.

This file knows nothing about pages.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from evomerge.errors import EvomergeError
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory, write_text
from evomerge.search.opening import open_pool, open_tasks, prompt_hashes
from evomerge.search.page.about import about


def rebuild_about(run: Path) -> str | None:
    """Write `about.json` if a run has none and it can be had without a download; return why not, None if all is well.

    Items whose prompts are not those of the run are none of its own: then nothing is written.
    """
    directory = RunDirectory(run)
    if directory.about.exists() or not directory.config.exists():
        return None
    try:
        config = SearchConfig.from_dict(directory.read_config())
        if not all(_is_local(reference) for reference in (config.models.base, *config.models.experts.values())):
            return "its models are not on this machine"
        pool = open_pool(config)
        tasks, items = open_tasks(config, pool)
        if prompt_hashes(tasks, items) != (directory.read().begin or {}).get("prompts"):
            return "its tasks are not what they were"
        write_text(directory.about, json.dumps(about(pool.layout, tasks, items).to_dict(), indent=1) + "\n")
    except (EvomergeError, OSError) as error:
        return str(error)
    return None


def _is_local(reference: str) -> bool:
    """Whether a model needs no hub: one that ships with evomerge, or a directory."""
    return reference.startswith("zoo:") or Path(reference).expanduser().is_dir()


def rebuild_all(runs: Iterable[Path]) -> list[str]:
    """Do so for several runs; return a line for each where it could not be done."""
    return [f"{run}: no texts of items: {reason}" for run in runs if (reason := rebuild_about(run))]
