"""`evomerge overlap`: do texts (training data, say) contain a task's items?"""

import argparse
import json
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, pairs

EXAMPLES = """
evomerge overlap train.jsonl --tasks gsm8k
evomerge overlap train-1.jsonl train-2.jsonl --tasks zoo_math,zoo_code --ngram 8 --json
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "overlap", run, help="do texts (training data, say) contain a task's items?", examples=EXAMPLES
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="text, or JSON Lines")
    parser.add_argument("--tasks", required=True, help="task names, with commas between them, or paths of YAML files")
    parser.add_argument("--ngram", type=int, default=13, metavar="N", help="words that must occur together; default 13")
    parser.add_argument(
        "--data",
        action="append",
        default=[],
        metavar="TASK.SPLIT=FILE",
        help="read a task's data set split from a local file",
    )
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(options: argparse.Namespace) -> int:
    """Print what was found, as a table or as JSON."""
    quiet()
    from evomerge.evaluation import find_task_config, load_tasks
    from evomerge.evaluation.overlap import overlap, print_overlap

    names = options.tasks.split(",")
    tasks = load_tasks(
        {name: keys for task in names for name, keys in find_task_config(task).items()},
        data=dict(pairs(options.data, "--data")),
    )
    found = overlap(tasks, options.files, n=options.ngram)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print_overlap(found)
        if any(task["above"] for task in found["tasks"].values()):
            print("next: count on no score of a model that was trained on these texts on the items above")
    return 0
