"""The comparison of a sweep's optimizers and seeds on the terminal."""

from collections.abc import Sequence

from evomerge.reporting.tables import plain, print_table
from evomerge.search.page.groups import Comparison
from evomerge.search.page.view import View
from evomerge.search.watch.pace import clock_text

#: Below this a difference is hardly luck.
SURE = 0.05


def print_comparison(found: Comparison, views: Sequence[View]) -> None:
    """Print a line for each group of runs, the best first."""
    rows = []
    for place, group in enumerate(found.groups):
        behind = found.behind[place - 1] if place else None
        verdict = "" if behind is None else "worse" if behind.p < SURE and behind.mean > 0 else "could be luck"
        rows.append(
            [
                group.name,
                str(len(group.runs)),
                plain(group.joined),
                f"{min(group.scores):.2f} to {max(group.scores):.2f}",
                f"{group.candidates:g}",
                clock_text(group.seconds),
                "-" if behind is None else plain(behind),
                "-" if behind is None else f"{behind.p:.2g}",
                verdict,
            ]
        )
    header = [
        "optimizer",
        "runs",
        f"best on {found.split}",
        "run by run",
        "candidates",
        "scoring",
        "the first is ahead by",
    ]
    print_table([*header, "p", ""], rows)
    print("Mean normalised scores of each run's best (0: the base, 1: the best experts), with 95 % intervals for other")
    print("seeds and other items of the same kind; differences item by item, p adjusted for all pairs (Holm).")
    if any(len(group.runs) == 1 for group in found.groups):
        print("Of an optimizer with a single run an interval says nothing about other seeds.")
    if found.split == "selection":
        print("The best of a run was chosen on these very items, which flatters all of them a little.")
    if found.left_out:
        names = ", ".join(str(views[place].path) for place in found.left_out)
        print(f"Not counted, as nothing was scored on the {found.split} split yet: {names}.")
