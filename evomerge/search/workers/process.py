"""The process of a worker: builds its scorer, then scores one job after the other, and shows that it is alive.

    python -m evomerge.search.workers.process FD

FD is its end of a socket pair, on which the search sends a factory with a device, then jobs, and is sent (kind, value)
pairs: ("alive", None), ("say", line), ("ready", settings), ("done", outcome), ("refused", error). The
worker ends when the other end is closed, with all processes of its group: those that vLLM has begun hold memory of
GPUs. This file knows nothing about scoring, and imports nothing heavy: signs of life come from the beginning.
"""

import contextlib
import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

#: Seconds between two signs of life.
BEAT = 2.0
PR_SET_PDEATHSIG = 1


def main(fd: int) -> None:
    """Serve until the search goes."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2):  # sent to all of a job's processes at once:
        signal.signal(number, signal.SIG_IGN)  # they are the search's to decide upon
    connection, sending, search = Connection(fd), threading.Lock(), os.getppid()
    _defer_to_search()

    def send(kind: str, value: Any = None) -> None:
        try:
            with sending:
                connection.send((kind, value))
        except OSError:
            _end()  # nobody listens any more

    def beat() -> None:
        while os.getppid() == search:
            send("alive")
            stop.wait(BEAT)
        _end()

    stop = threading.Event()
    threading.Thread(target=beat, name="signs of life", daemon=True).start()
    with contextlib.suppress(EOFError, ConnectionError):  # the search is gone, or wants no more
        _serve(connection, send)
    _end()


def _defer_to_search() -> None:
    """Have the kernel, where it can, kill this process before the search's if memory is short, and wake it at its end.

    A worker that was stopped would outlive the search for ever.
    """
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)


def _end() -> NoReturn:
    """End at once: threads of libraries, and CUDA's, need not be waited for."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _serve(connection: Connection, send: Callable[..., None]) -> None:
    factory, device = connection.recv()

    from evomerge.search.workers.serving import answer, build

    scorer, built = build(factory, device, lambda line: send("say", line))
    send(*built)
    while scorer is not None:
        kind, value = answer(scorer, connection.recv())
        send(kind, value)
        if kind == "refused":
            return


if __name__ == "__main__":
    main(int(sys.argv[1]))
