"""The page of runs as a file. This file knows nothing about what is on it."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.durable import unwritable
from evomerge.reporting.page import render
from evomerge.search.directory import write_text
from evomerge.search.page.data import page_data
from evomerge.search.page.view import View


def write_page(runs: Sequence[Path | View], out: Path) -> None:
    """Write the page of one or several runs, one file that needs nothing else; `WorkError` if it cannot be written."""
    page = render(page_data(runs))
    try:
        write_text(out, page)
    except OSError as error:
        raise unwritable(out, error) from None
