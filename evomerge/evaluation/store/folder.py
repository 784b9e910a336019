"""The files of one folder of outcomes, in the order in which they were begun. This file writes none."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from evomerge.evaluation.store import segments, tables
from evomerge.evaluation.store.contents import Contents


class Source(Protocol):
    """A file of outcomes: a segment or a table."""

    path: Path

    def refresh(self) -> int:
        """Take in what was appended since; return the size in bytes."""

    def read(self, key: str) -> Contents:
        """Return what it holds of a model."""

    def by_key(self) -> Iterator[tuple[str, Contents]]:
        """Yield what it holds of each model, in the order of their keys."""


class Folder:
    """A folder of segments and tables, which others may add to, seal and remove at any time.

    Args:
        path: the folder; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sources: list[Source] = []

    def refresh(self) -> None:
        """Take in what was written since; `FileNotFoundError` if a file went meanwhile: then refresh once more."""
        known = {source.path.name: source for source in self.sources}
        self.sources = [known.get(name) or self._open(name) for name in self._names()]
        for source in self.sources:
            source.refresh()

    def read(self, key: str) -> list[Contents]:
        """Return what each file holds of a model; `FileNotFoundError` if one went since the last refresh."""
        return [source.read(key) for source in self.sources]

    def _open(self, name: str) -> Source:
        path = self.path / name
        return tables.Table(path) if name.endswith(tables.SUFFIX) else segments.Segment(path)

    def _names(self) -> list[str]:
        """List the folder until two lists agree: one that is made while files are renamed may miss old and new."""
        names = self._list()
        while (again := self._list()) != names:
            names = again
        return names

    def _list(self) -> list[str]:
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.endswith((segments.SUFFIX, tables.SUFFIX)))
