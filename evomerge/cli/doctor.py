"""`evomerge doctor`: do these models merge, and what will go wrong?"""

import argparse
import json
import re

from evomerge.cli.words import Commands, add_command, print_next, threads

EXAMPLES = """
evomerge doctor zoo:base zoo:math zoo:code
evomerge doctor --base org/base org/expert-one org/expert-two --quick
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(commands, "doctor", run, help="do these models merge? what will go wrong?", examples=EXAMPLES)
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="the base, then the experts: directories, hub ids, zoo:NAME"
    )
    parser.add_argument("--base", metavar="MODEL", help="the base; all other models are experts")
    parser.add_argument("--quick", action="store_true", help="measure a sample of the weights only")
    parser.add_argument("--json", action="store_true", help="everything as JSON")
    parser.add_argument("--threads", type=int, default=0, help="0: as many as there are processors")


def run(options: argparse.Namespace) -> int:
    """Print the diagnosis; status 1 if the models do not merge."""
    from rich.console import Console

    from evomerge.doctor import diagnose
    from evomerge.doctor.text import print_diagnosis

    base, *experts = options.models if options.base is None else [options.base, *options.models]
    with Console(stderr=True).status("reading") as status:  # shows nothing where stderr is no terminal
        diagnosis = diagnose(
            base,
            experts,
            quick=options.quick,
            threads=threads(options.threads),
            progress=lambda share: status.update(f"reading weights: {100 * share:.0f} %"),
        )
    if options.json:
        print(json.dumps(diagnosis.to_dict(), indent=1, allow_nan=False))
    else:
        print_diagnosis(diagnosis)
        if diagnosis.merges and experts:
            names = [re.sub(r"\W+", "_", facts.label) for facts in diagnosis.models[1:]]
            labels = ", ".join(f"{name}: {expert}" for name, expert in zip(names, experts, strict=True))
            words = [f"models.base={base}", "~models.experts", f"+models.experts={{{labels}}}"]
            print_next((["evomerge", "plan", *words], "what a search over them needs; add tasks=..."))
    return 0 if diagnosis.merges else 1
