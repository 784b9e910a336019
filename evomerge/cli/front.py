"""`evomerge front`: show the candidates of a run that no other beats on every task, or the recipes that it predicts."""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_next, weights
from evomerge.errors import UsageError

EXAMPLES = """
evomerge front RUN_DIR
evomerge front RUN_DIR --prefer gsm8k=2 --prefer mbpp=1
evomerge front RUN_DIR --json
evomerge front RUN_DIR --predicted --prefer gsm8k=2 --prefer mbpp=1
evomerge front RUN_DIR --predicted --prefer gsm8k=1 --recipe recipe.yaml
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "front", run),
        help="show the front of a run: candidates that no other beats on every task",
        examples=EXAMPLES,
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="finished, stopped or still running")
    parser.add_argument(
        "--prefer",
        action="append",
        default=[],
        metavar="TASK=WEIGHT",
        help="order by weighted normalised scores, the best first; tasks that are not named weigh nothing",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.add_argument(
        "--predicted",
        action="store_true",
        help="recipes that nobody has scored: the predicted best for every preference, with what is promised of them",
    )
    parser.add_argument(
        "--recipe", type=Path, metavar="FILE", help="with --predicted: write the recipe for the weights there"
    )


def run(options: argparse.Namespace) -> int:
    """Print the front as a table or as JSON."""
    prefer = weights(options.prefer)
    if options.recipe and not options.predicted:
        raise UsageError("--recipe goes with --predicted; recipes of scored candidates are in the run's recipes/")
    if options.predicted:
        return _predicted(options.run_dir, prefer, as_json=options.json, recipe=options.recipe)
    from evomerge.search.show import front_json, front_table

    if options.json:
        print(json.dumps(front_json(options.run_dir, prefer), indent=1))
        return 0
    first = front_table(options.run_dir, prefer)
    use = f"the model of {first.name}, best for these weights" if prefer else "the model of the best on selection"
    print_next((["evomerge", "export", options.run_dir, "my-model", *_words(prefer)], use))
    return 0


def _predicted(run_dir: Path, prefer: Mapping[str, float], *, as_json: bool, recipe: Path | None) -> int:
    quiet()
    from evomerge.search.predicted import predicted_json, predicted_table
    from evomerge.search.preferred import write_predicted

    if as_json:
        print(json.dumps(predicted_json(run_dir, prefer), indent=1))
    else:
        predicted_table(run_dir, prefer)
        words: list[str | Path] = ["evomerge", "export", run_dir, "my-model", "--predicted", *_words(prefer)]
        print_next((words, "the model of this recipe"))
    if recipe:
        write_predicted(run_dir, prefer, recipe)
    return 0


def _words(prefer: Mapping[str, float]) -> list[str]:
    """Write weights as the options that name them."""
    return [word for task, weight in prefer.items() for word in ("--prefer", f"{task}={weight!r}".removesuffix(".0"))]
