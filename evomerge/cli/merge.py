"""`evomerge merge`: write the model that a recipe describes."""

import argparse
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_next, print_notes
from evomerge.cli.writing import add_options, push, read_options
from evomerge.errors import UsageError

EXAMPLES = """
evomerge merge RUN_DIR/best/recipe.yaml my-model
evomerge merge RUN_DIR/best/recipe.yaml my-model --shard-size 2GB --tokenizer-from math
evomerge merge RUN_DIR/best/recipe.yaml --mergekit mergekit.yaml
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(commands, "merge", run, help="write the model that a recipe describes", examples=EXAMPLES)
    parser.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    parser.add_argument("out", type=Path, metavar="OUT_DIR", nargs="?")
    parser.add_argument(
        "--mergekit", type=Path, metavar="FILE", help="write a YAML for mergekit-yaml that builds the same"
    )
    parser.add_argument(
        "--expect", metavar="FINGERPRINT", help="write nothing if the weights have another (a model card names it)"
    )
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the model, or a mergekit YAML, or both."""
    if options.out is None and options.mergekit is None:
        raise UsageError("merge: give OUT_DIR, or --mergekit FILE")
    if options.out is None and options.push_to_hub is not None:
        raise UsageError("merge: --push-to-hub needs OUT_DIR")
    quiet()
    from evomerge.recipes import Recipe

    recipe = Recipe.load(options.recipe)
    if options.mergekit is not None:
        from evomerge.mergekit import export_file

        print_notes(export_file(recipe, options.mergekit))
    if options.out is None:
        return 0
    from evomerge.search.export import export_recipe

    report = export_recipe(recipe, options.out, expected_fingerprint=options.expect, **read_options(options))
    checked = ", as expected" if options.expect else ""
    print(f"{options.out}: {len(report.files)} files, fingerprint {report.fingerprint}{checked}")
    push(options, options.out)
    print_next((["evomerge", "evaluate", options.out, "--tasks", "TASKS"], "what it scores"))
    return 0
