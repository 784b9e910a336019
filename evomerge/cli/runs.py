"""`evomerge runs`: which runs there are, how far each is, and which of them nobody works at any more."""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.cli.words import Commands, add_command, print_next

if TYPE_CHECKING:
    from evomerge.search.fleet import Run

RUNS_VERSION = 1

EXAMPLES = """
evomerge runs
evomerge runs runs/my-sweep
evomerge runs runs/my-sweep --json
"""

#: The expected time, and its bounds.
ENDS = ("expected", "low", "high")
#: What is to be known of runs in some state.
HINTS = {
    "dead": "ended without a word: killed, or their host went down; the same command goes on from there",
    "hung": "a process is there but says nothing: it is stopped, or cannot write",
    "failed": "ended by an error; log.txt has it, and the same command goes on from there",
    "interrupted": "were asked to end; the same command goes on from there",
    "unknown": "were begun by another version, or ended at their very beginning",
}


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "runs", run),
        help="list the runs in a folder: state, progress, best so far, time left",
        examples=EXAMPLES,
    )
    where = "a folder with runs in it, at any depth (default: runs)"
    parser.add_argument("folder", type=Path, metavar="DIR", nargs="?", default=Path("runs"), help=where)
    parser.add_argument("--json", action="store_true", help="everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Print the runs as a table or as JSON."""
    from evomerge.search.fleet import find_runs

    found = find_runs(options.folder)
    if options.json:
        print(json.dumps({"version": RUNS_VERSION, "runs": [one.to_dict() for one in found]}, indent=1))
        return 0
    _print(options.folder, found)
    if len(found) > 1:
        print_next((["evomerge", "report", options.folder], "compares their optimizers and seeds"))
    return 0


def _print(folder: Path, found: "Sequence[Run]") -> None:
    from evomerge.reporting.tables import print_table
    from evomerge.search.watch.pace import clock_text

    rows = []
    for one in found:
        left = one.seconds_left
        rows.append(
            [
                str(one.path.relative_to(folder)) if one.path != folder else str(folder),
                one.state,
                _models(one.status.get("models", {})),
                _best(one.status.get("best")),
                one.status.get("split") or "-",
                clock_text(one.status["seconds"]) if "seconds" in one.status else "-",
                "-" if left is None else "{} ({} to {})".format(*(clock_text(left[k]) for k in ENDS)),
                "-" if one.age is None else f"{clock_text(one.age)} ago",
            ]
        )
    header = ["run", "state", "models", "best", "on", "took", "left", "last heard"]
    print_table(header, rows, left=("state", "on"))
    print("best: mean normalised, 0 is the base, 1 the best experts, ± one standard error.")
    states = Counter(one.state for one in found)
    print(
        f"{len(found)} run{'s' * (len(found) > 1)}: {', '.join(f'{count} {name}' for name, count in states.items())}."
    )
    for name, hint in HINTS.items():
        if states[name]:  # type: ignore[index]
            print(f"{name}: {hint}.")


def _models(models: Mapping[str, Any]) -> str:
    """Write how many models have a result, of how many, and how many failed."""
    if not models:
        return "-"
    failed = sum(models.get("failed", {}).values())
    planned = "" if models.get("planned") is None else f" of {models['planned']}"
    return f"{models.get('done', 0)}{planned}" + (f", {failed} failed" if failed else "")


def _best(best: Mapping[str, Any] | None) -> str:
    if best is None:
        return "-"
    error = best.get("error")
    return f"{best['joined']:.3f}" + ("" if error is None else f" ± {error:.3f}")
