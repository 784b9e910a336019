"""Who looks on while a search runs: terminal, log, status file, mirror, trackers.

An observer is shown the whole record after every event and finds out by itself what is new, so that one that missed an
event, or was not there when the run began, is complete after the next. This file knows nothing about what they do.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from evomerge.search.record import Record


class Observer(Protocol):
    """Is shown a search's record as it grows."""

    def __call__(self, record: Record) -> None:
        """Take note of what is new; called after every event, in the search's own thread, so be quick."""

    def close(self, record: Record) -> None:
        """Take note of the end: the search is done, with all its files written, or it failed or was interrupted."""


class Observers:
    """Several observers as one.

    What goes wrong in an observer is said once and never ends the search; it is still shown what comes after. Only
    the terminal's own errors are raised: if nobody reads the output any more (`| head`), the search stops.

    Args:
        terminal: the observer that a person watches.
        others: all others.
        say: prints a line for that person.
    """

    def __init__(self, terminal: Observer, others: Sequence[Observer], *, say: Callable[[str], None]) -> None:
        self._terminal, self._others, self._say = terminal, list(others), say
        self._failed: set[int] = set()

    def __call__(self, record: Record) -> None:
        """Show all of them the record."""
        self._terminal(record)
        for observer in self._others:
            self._try(observer, observer, record)

    def close(self, record: Record) -> None:
        """Close all of them, the terminal last: the others may still have something to say."""
        try:
            for observer in self._others:
                self._try(observer, observer.close, record)
        finally:  # also where somebody presses Ctrl-C twice
            self._terminal.close(record)

    def _try(self, observer: Observer, call: Callable[[Record], None], record: Record) -> None:
        try:
            call(record)
        except Exception as error:
            if id(observer) not in self._failed:
                self._failed.add(id(observer))
                known = error.strerror if isinstance(error, OSError) else None
                reason = known or " ".join(str(error).split()) or type(error).__name__
                self._say(f"{type(observer).__name__}: {reason} (the search goes on without it)")
