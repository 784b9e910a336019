"""The options of the commands that write a model: `export` and `merge`.

This file knows what the words mean, and nothing about how a model is written.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from evomerge.cli.words import threads
from evomerge.errors import UsageError, WorkError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    parser.add_argument(
        "--shard-size", default="5GB", metavar="SIZE", help="largest file of weights: 5GB, 500MB, 2GiB, bytes"
    )
    parser.add_argument(
        "--tokenizer-from",
        metavar="EXPERT",
        help="whose tokenizer, chat template and generation config to take; default: the base's",
    )
    parser.add_argument(
        "--push-to-hub", metavar="ORG/NAME", help="also put it on the hub, into a repository that is new or empty"
    )
    parser.add_argument("--private", action="store_true", help="with --push-to-hub: a new repository is private")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are processors")


def read_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return what they say as keyword arguments of `search.export`, after refusing a hub that would refuse us."""
    if options.private and options.push_to_hub is None:
        raise UsageError("--private goes with --push-to-hub")
    found = {
        "threads": threads(options.threads),
        "shard_bytes": size(options.shard_size),
        "tokenizer_from": options.tokenizer_from,
        "say": lambda line: print(f"warning: {line}", file=sys.stderr),
    }
    if options.push_to_hub is not None:
        from evomerge.checkpoints.upload import check_repository

        check_repository(options.push_to_hub, private=options.private)
    return found


def push(options: argparse.Namespace, directory: Path) -> None:
    """Put the model that was written on the hub, if that was asked for."""
    if options.push_to_hub is None:
        return
    from evomerge.checkpoints.upload import upload

    try:
        print(f"on the hub: {upload(directory, options.push_to_hub, private=options.private)}")
    except WorkError as error:
        again = f"hf upload {options.push_to_hub} {directory}{' --private' if options.private else ''}"
        raise WorkError(f"{error}; the model is in {directory}, to try again: {again}") from None


def size(text: str) -> int:
    """Return the bytes that a text like 5GB, 2GiB or 1000 means."""
    match = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(match.group(2).upper()) if match else None
    found = int(float(match.group(1)) * unit) if match and unit else 0
    if found < 1:
        raise UsageError(f"--shard-size {text}: write a number of bytes, or one with KB, MB, GB, KiB, MiB or GiB")
    return found
