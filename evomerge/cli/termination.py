"""SIGTERM (a cluster's scheduler, `kill`) as an exception, so that a search puts its terminal and files in order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(BaseException):
    """The process was asked to end."""


@contextmanager
def raising_terminated() -> Iterator[None]:
    """Raise `Terminated` where SIGTERM comes while the context lasts."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(number: int, frame: FrameType | None) -> None:
    raise Terminated("ended by SIGTERM")
