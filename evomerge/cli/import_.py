"""`evomerge import`: turn a mergekit YAML into a recipe, a mergekit-evolve one into an experiment."""

import argparse
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_notes, write_file

EXAMPLES = """
evomerge import mergekit.yaml --out recipe.yaml
evomerge import mergekit-evolve.yaml --out conf/experiment/mine.yaml
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "import", run),
        help="turn a mergekit YAML into a recipe, a mergekit-evolve one into an experiment",
        examples=EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of to standard output")
    parser.add_argument("--base", metavar="MODEL", help="the base, where the file names none")


def run(options: argparse.Namespace) -> int:
    """Print or write what the file means here; notes go to standard error."""
    quiet()
    from evomerge.mergekit import import_file

    text, notes = import_file(options.file, base=options.base)
    print_notes(notes)
    if options.out is None:
        print(text, end="")
    else:
        write_file(options.out, text)
    return 0
