"""Tables for a terminal or a log: plain columns, no colour needed to read them.

This file knows nothing about what the cells mean.
"""

import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from evomerge.reporting.statistics import Interval


def are_shares(scores: Iterable[float]) -> bool:
    """Return whether all scores lie in [0, 1], so that their mean may be written in per cent."""
    return all(0.0 <= score <= 1.0 for score in scores)


def percent(interval: Interval) -> str:
    """Write an interval of a share as `61.5 [57.2, 65.6]`."""
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def plain(interval: Interval) -> str:
    """Write an interval as `0.62 [0.57, 0.66]`."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def digits(interval: Interval) -> str:
    """Write an interval of any size with four significant digits, as `-213.4 [-220, -206.8]`."""
    return f"{interval.mean:.4g} [{interval.low:.4g}, {interval.high:.4g}]"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def print_table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", left: Sequence[str] = ()
) -> None:
    """Print rows under a header; the first column and those named in `left` are left-aligned, the others right."""
    table = Table(box=box.SIMPLE_HEAD, title=title or None, title_justify="left", pad_edge=False)
    for index, name in enumerate(header):
        table.add_column(name, justify="left" if index == 0 or name in left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    # A log has no width of its own: never wrap there.
    width = None if sys.stdout.isatty() else 200
    Console(file=sys.stdout, width=width, highlight=False, markup=False).print(table)
