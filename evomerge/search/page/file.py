"""The page of runs as a file. This file knows nothing about what is on it."""

from collections.abc import Sequence
from pathlib import Path

from evomerge.errors import WorkError
from evomerge.reporting.page import render
from evomerge.search.directory import write_text
from evomerge.search.page.data import page_data


def write_page(runs: Sequence[Path], out: Path) -> None:
    """Write the page of one or several runs, one file that needs nothing else; `WorkError` if it cannot be written."""
    page = render(page_data(runs))
    try:
        write_text(out, page)
    except OSError as error:
        raise WorkError(f"{out}: cannot be written: {error.strerror}") from None
