"""`evomerge report`: write the page of one run, or of several on one page, and compare the optimizers of a sweep."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evomerge.cli.quiet import quiet
from evomerge.cli.words import Commands, add_command, print_notes
from evomerge.errors import UsageError

if TYPE_CHECKING:
    from evomerge.search.page.view import View

EXAMPLES = """
evomerge report RUN_DIR
evomerge report runs/my-sweep
evomerge report runs/quickstart-map-seed0 runs/quickstart-cmaes-seed0 --out both.html
"""


def add(commands: Commands) -> None:
    """Declare the command."""
    parser = add_command(
        *(commands, "report", run),
        help="write report.html of a run, or one page that compares several runs or all of a sweep",
        examples=EXAMPLES,
    )
    parser.add_argument(
        *("run_dirs",), type=Path, metavar="RUN_DIR", nargs="+", help="a run, finished or not, or a folder of runs"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.html",
        help="where to write it; default: report.html in the only RUN_DIR, of several in the current directory",
    )


def run(options: argparse.Namespace) -> int:
    """Write the page, or one for each lot of runs that can be compared, and say where it is."""
    quiet()
    from evomerge.search.page.data import comparable
    from evomerge.search.page.file import write_page
    from evomerge.search.page.groups import compare
    from evomerge.search.page.rebuild import rebuild_all
    from evomerge.search.page.view import View
    from evomerge.search.show_groups import print_comparison

    given: list[Path] = options.run_dirs
    paths = [path for folder in given for path in _runs(folder)]
    print_notes(rebuild_all(paths))
    views = [View.open(path) for path in paths] if paths == given else _that_can_be_shown(paths)
    out = options.out or (given[0] / "report.html" if len(given) == 1 else Path("report.html"))
    lots = [views] if paths == given else comparable(views)
    for number, lot in enumerate(lots, start=1):
        page = out if len(lots) == 1 else out.with_stem(f"{out.stem}-{number}")
        write_page(lot, page)
        found = compare(lot)
        if found is not None:
            print_comparison(found, lot)
        print(f"{page}: written" + (f" ({len(lot)} runs that can be compared)" if len(lots) > 1 else ""))
    print("next: open it in any browser; it is one file that needs no server and no network")
    return 0


def _runs(folder: Path) -> list[Path]:
    """Return the run that a folder is, or those below it."""
    from evomerge.search.fleet import find_runs

    return [folder] if (folder / "ledger.jsonl").exists() else [run.path for run in find_runs(folder)]


def _that_can_be_shown(paths: Sequence[Path]) -> "list[View]":
    """Open the runs of a sweep that have got far enough; the others are noted."""
    from evomerge.search.page.view import View

    views = []
    for path in paths:
        try:
            views.append(View.open(path))
        except UsageError as error:
            print_notes([f"left out: {error}"])
    if not views:
        raise UsageError("no run has got so far that there is something to report")
    return views
