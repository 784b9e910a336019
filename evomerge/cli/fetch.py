"""`evomerge fetch`: bring the models and data sets of a search here, for nodes that have no network."""

import argparse
import itertools
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command
from evomerge.config import compose, parse_overrides
from evomerge.errors import UsageError, WorkError

EXAMPLES = """
evomerge fetch experiment=qwen2_5_1_5b
evomerge fetch cluster=slurm experiment=qwen2_5_1_5b optimizer=map,cmaes seed=1,2,3
evomerge fetch --check experiment=qwen2_5_1_5b
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "fetch", run),
        help="bring the models and data sets of a search here, for nodes that have no network",
        examples=EXAMPLES,
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="HYDRA_OVERRIDE", help="the same words as for a search or a sweep"
    )
    parser.add_argument("--check", action="store_true", help="fetch nothing: say whether all is here without a network")


def run(options: argparse.Namespace) -> int:
    """Fetch, have another process open all without a network, and say what the nodes must be told."""
    if options.check:
        os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}  # read when the libraries are imported
    configurations = list(_configurations(options.overrides))
    quiet()
    from huggingface_hub import constants

    from evomerge.search.config import SearchConfig
    from evomerge.search.fetch import caches, fetch

    if constants.HF_HUB_OFFLINE and not options.check:
        raise UsageError("the hub is switched off here (HF_HUB_OFFLINE); unset it to fetch, or write --check")
    said: set[str] = set()

    def say(line: str) -> None:
        if line not in said:
            print(line, flush=True)
        said.add(line)

    for data in configurations:
        fetch(SearchConfig.from_dict(data), say)
    if options.check:
        print("all is here, without a network")
        return 0
    settings = caches()
    command = [sys.executable, "-m", "evomerge.cli", "fetch", "--check", *options.overrides]
    done = subprocess.run(command, env={**os.environ, **settings}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise WorkError(f"what was fetched cannot be opened without a network: {done.stderr.strip()}")
    print("all of it opens without a network too; nodes that see these folders need:")
    print("  export " + " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items()))
    return 0


def _configurations(words: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the configurations that the words describe, one for each that needs other models or tasks."""
    for word in words:
        if word.startswith("-"):
            raise UsageError(f"fetch: {word!r} is no override; write key=value words as for a search")
    overrides = parse_overrides(words)
    choices = [
        [f"{one.get_key_element()}={value}" for value in one.sweep_string_iterator()]
        if one.is_sweep_override()
        else [word]
        for word, one in overrides.items()
    ]
    seen: set[str] = set()
    for chosen in itertools.product(*choices):
        data, _ = compose(chosen)
        needs = json.dumps([data["models"], data["tasks"]], sort_keys=True)
        if needs not in seen:
            yield data
        seen.add(needs)
