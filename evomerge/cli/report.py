"""`evomerge report`: write the page of one run, or of several on one page."""

import argparse
from pathlib import Path

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_notes

EXAMPLES = """
evomerge report RUN_DIR
evomerge report runs/quickstart-map-seed0 runs/quickstart-cmaes-seed0 --out both.html
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "report", run),
        help="write report.html of a run, or one page that compares several runs",
        examples=EXAMPLES,
    )
    parser.add_argument("run_dirs", type=Path, metavar="RUN_DIR", nargs="+", help="finished, stopped or still running")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="where to write it; default: report.html in the run directory, of several in the current directory",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page and say where it is."""
    quiet()
    from evomerge.search.page.file import write_page
    from evomerge.search.page.rebuild import rebuild_all

    runs: list[Path] = options.run_dirs
    out = options.out or (runs[0] / "report.html" if len(runs) == 1 else Path("report.html"))
    print_notes(rebuild_all(runs))
    write_page(runs, out)
    print(f"{out}: written")
    print("next: open it in any browser; it is one file that needs no server and no network")
    return 0
