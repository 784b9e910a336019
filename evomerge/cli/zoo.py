"""`evomerge zoo`: list the tiny models that ship with evomerge, or print one's path."""

import argparse

from evomerge.cli.words import Commands, add_command, print_next

EXAMPLES = """
evomerge zoo
evomerge zoo math
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "zoo", run),
        help="list the tiny models that ship with evomerge, or print one's path",
        examples=EXAMPLES,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="without the zoo: in front")


def run(options: argparse.Namespace) -> int:
    """Print the list, or a path."""
    from evomerge.zoo import MODELS, model_path

    if options.name:
        print(model_path(options.name))
    else:
        for name, description in MODELS.items():
            print(f"zoo:{name:<10} {description}")
        print_next((["evomerge", "search", "experiment=quickstart"], "find the best merge of them"))
    return 0
