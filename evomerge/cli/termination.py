"""The signals by which a cluster's scheduler (or `kill`) asks a process to end, as an exception, so that a search puts
its terminal and files in order.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

#: `kill` and Slurm's preemption; Slurm's warning before a time limit, and submitit's word for "go on elsewhere".
SIGNALS = (signal.SIGTERM, signal.SIGUSR2)


class Terminated(BaseException):
    """The process was asked to end.

    Attributes:
        came: the signals, in the order in which they came; those that come while the process ends are among them.
    """

    def __init__(self, came: list[int]) -> None:
        super().__init__(f"ended by {signal.Signals(came[0]).name}")
        self.came = came


@contextmanager
def raising_terminated() -> Iterator[None]:
    """Raise `Terminated` where one of the signals comes while the context lasts; the next do not disturb the end."""
    if threading.current_thread() is not threading.main_thread():  # only the main thread may handle signals
        yield
        return
    came: list[int] = []

    def come(number: int, frame: FrameType | None) -> None:
        came.append(number)
        if not isinstance(sys.exception(), Terminated):
            raise Terminated(came)

    before = {number: signal.signal(number, come) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
