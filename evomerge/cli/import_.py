"""`evomerge import`: turn a mergekit YAML into a recipe, a mergekit-evolve one into an experiment."""

import argparse
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_next, print_notes, write_file

EXAMPLES = """
evomerge import mergekit.yaml --out recipe.yaml
evomerge import mergekit-evolve.yaml --out mine/experiment/first.yaml
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "import", run),
        help="turn a mergekit YAML into a recipe, a mergekit-evolve one into an experiment",
        examples=EXAMPLES,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="a configuration of mergekit's")
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
        if text.startswith("# @package"):
            folder = options.out.parent.parent if options.out.parent.name == "experiment" else "DIR"
            words = ["evomerge", "search", "--config-dir", folder, f"experiment={options.out.stem}"]
            print_next((words, f"where the file is {Path(folder, 'experiment', options.out.name)}"))
        else:
            print_next((["evomerge", "merge", options.out, "my-model"], "the model of this recipe"))
    return 0
