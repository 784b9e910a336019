"""`evomerge export`: write the model of a run's candidate, checked bit for bit against what was scored."""

import argparse
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_next, weights
from evomerge.cli.writing import add_options, push, read_options
from evomerge.errors import UsageError

EXAMPLES = """
evomerge export RUN_DIR my-model
evomerge export RUN_DIR my-model --prefer math=2 --prefer code=1
evomerge export RUN_DIR my-model --predicted --prefer math=2 --prefer code=1
evomerge export RUN_DIR my-model --pick 17 --shard-size 2GB --tokenizer-from math
evomerge export RUN_DIR my-model --push-to-hub org/my-model --private
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        commands, "export", run, help="write the model of a run's candidate, checked bit for bit", examples=EXAMPLES
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument(
        "--pick", default="best", help="best (on the selection split), knee (of the front), or a number"
    )
    parser.add_argument(
        "--prefer", action="append", default=[], metavar="TASK=WEIGHT", help="the front's best by weights"
    )
    parser.add_argument(
        "--predicted",
        action="store_true",
        help="what the run predicts to be the best for the weights of --prefer; nobody has scored it",
    )
    add_options(parser)


def run(options: argparse.Namespace) -> int:
    """Write the model of the candidate that is meant."""
    if options.prefer and options.pick != "best":
        raise UsageError("--pick and --prefer exclude each other; give one")
    if options.predicted and options.pick != "best":
        raise UsageError("--pick and --predicted exclude each other; give one")
    quiet()
    from evomerge.search.directory import RunDirectory
    from evomerge.search.export import export_predicted, export_trial

    place, prefer, writing = (options.run_dir, options.out), weights(options.prefer), read_options(options)
    if options.predicted:
        report, recipe_hash = export_predicted(*place, prefer=prefer, **writing)
        print(f"{options.out}: {len(report.files)} files, recipe {recipe_hash}, fingerprint {report.fingerprint}")
        print("Predicted, not scored: evaluate it before anything is claimed of it.")
    else:
        report = export_trial(*place, pick=options.pick, prefer=prefer, **writing)
        print(f"{options.out}: {len(report.files)} files, fingerprint {report.fingerprint}, as it was scored")
    print(f"Its card, with parents, licences, scores and how to build it again, is {options.out / 'README.md'}.")
    push(options, options.out)
    config = RunDirectory(options.run_dir).read_config()
    split = "selection" if options.predicted else "report"
    words = ["evomerge", "evaluate", options.out, "--tasks", ",".join(config["tasks"]), "--split", split]
    words += ["--allow-code-execution"] if config.get("evaluation", {}).get("allow_code_execution") else []
    print_next((words, f"its scores on the whole {split} split"))
    return 0
