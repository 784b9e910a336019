"""What several commands share: how a command is declared, and what the words of its options mean."""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from evomerge.errors import UsageError, WorkError

#: What `add(commands)` is given.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def add_command(
    commands: Commands, name: str, run: Callable[[argparse.Namespace], int], *, help: str, examples: str
) -> argparse.ArgumentParser:
    """Declare a command; `examples` are whole command lines, one a line, which its help ends with."""
    lines = "\n".join(f"  {line.strip()}" for line in examples.strip().splitlines())
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=help[0].upper() + help[1:] + ("" if help.endswith("?") else "."),
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run_command=run)
    return parser


def pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    """Read NAME=VALUE words; `UsageError` that names the option if one is not of that form."""
    found = [text.partition("=") for text in texts]
    for text, (key, _, value) in zip(texts, found, strict=True):
        if not key or not value:
            raise UsageError(f"{option} {text!r}: write NAME=VALUE")
    return [(key, value) for key, _, value in found]


def weights(texts: Sequence[str]) -> Mapping[str, float]:
    """Read the TASK=WEIGHT words of --prefer."""
    found: dict[str, float] = {}
    for key, value in pairs(texts, "--prefer"):
        try:
            found[key] = float(value)
        except ValueError:
            raise UsageError(f"--prefer {key}={value}: the weight is not a number") from None
        if not 0 <= found[key] < float("inf"):
            raise UsageError(f"--prefer {key}={value}: the weight must be a finite number >= 0")
    return found


def batch_size(text: str) -> int | str:
    """Read --batch-size: auto, or a number of prompts."""
    if text != "auto" and (not text.isdigit() or int(text) < 1):
        raise UsageError(f"--batch-size {text}: must be auto, or 1 or more")
    return text if text == "auto" else int(text)


def threads(number: int) -> int:
    """Read --threads: 0 means as many as there are processors for this process."""
    if number < 0:
        raise UsageError(f"--threads {number}: must be 0 or more")
    return number or len(os.sched_getaffinity(0))


def write_file(path: Path, text: str) -> None:
    """Write what a user asked for; `WorkError` if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise WorkError(f"{path}: cannot be written: {error.strerror}") from None


def print_next(*lines: tuple[Sequence[str | Path], str]) -> None:
    """Print what to do next: command lines, as words of which some are paths, each with what it is good for."""
    for words, use in lines:
        print(f"next: {shlex.join(map(str, words))}   ({use})")


def print_notes(notes: Sequence[str]) -> None:
    """Print what a user should know beside the result, on standard error."""
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
