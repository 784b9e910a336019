"""Tables for a terminal or a log: plain columns, no colour needed to read them.

This file knows nothing about what the cells mean.
"""

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from evomerge.reporting.statistics import Interval


def percent(interval: Interval) -> str:
    """Write an interval of a share as `61.5 [57.2, 65.6]`."""
    return f"{100 * interval.mean:.1f} [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"


def plain(interval: Interval) -> str:
    """Write an interval as `0.62 [0.57, 0.66]`."""
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


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
