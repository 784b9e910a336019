"""`evomerge plan`: what will a search need, and how long will it take, before anything heavy starts?"""

import argparse
import json
import re

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_next
from evomerge.config import compose
from evomerge.errors import UsageError

EXAMPLES = """
evomerge plan experiment=quickstart
evomerge plan experiment=quickstart optimizer=map budget.candidates=200 --compare tpe,gp
evomerge plan experiment=quickstart --no-measure --json
evomerge plan experiment=quickstart --memory 16GB --gpu-memory 8GB --no-measure
"""

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "plan", run),
        help="memory, disk and time of a search, and whether it fits, before anything heavy starts",
        examples=EXAMPLES,
    )
    parser.add_argument("overrides", nargs="*", metavar="HYDRA_OVERRIDE", help="the same words as for a search")
    parser.add_argument("--no-measure", action="store_true", help="headers only: build and score no candidate")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="about how long the measured candidate may be scored (default: 60)"
    )
    parser.add_argument("--compare", default="", metavar="NAME,NAME", help="other optimizers to show beside")
    parser.add_argument("--memory", metavar="16GB", help="plan for so much main memory, not for this machine's")
    parser.add_argument("--gpu-memory", metavar="24GB", help="plan for a GPU with so much memory")
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the plan; status 1 if the search does not fit."""
    for word in options.overrides:
        if word.startswith("-"):
            raise UsageError(f"plan: {word!r} is no override; write key=value words as for a search")
    data, directory = compose(options.overrides)
    quiet()
    from rich.console import Console

    from evomerge.search.config import SearchConfig
    from evomerge.search.plan import Limits, make_plan, print_plan

    limits = Limits(host=_bytes(options.memory, "--memory"), device=_bytes(options.gpu_memory, "--gpu-memory"))
    if not options.seconds > 0:
        raise UsageError("--seconds: must be above zero")
    with Console(stderr=True).status("reading") as status:  # shows nothing where stderr is no terminal
        plan = make_plan(
            SearchConfig.from_dict(data),
            directory,
            measured=not options.no_measure and limits == Limits(),
            seconds=options.seconds,
            limits=limits,
            optimizers=[name for name in options.compare.split(",") if name],
            say=lambda line: status.update(line),
        )
    if options.json:
        print(json.dumps(plan.to_dict(), indent=1, allow_nan=False))
    else:
        print_plan(plan)
        if plan.go:
            print_next((["evomerge", "search", *options.overrides], "run it, or go on with it"))
    return 0 if plan.go else 1


def _bytes(text: str | None, option: str) -> int | None:
    """Read `16GB`."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]B)", text.strip(), re.IGNORECASE)
    if not match or not float(match[1]):
        raise UsageError(f"{option} {text!r}: write a size such as 16GB")
    return int(float(match[1]) * _UNITS[match[2].upper()])
