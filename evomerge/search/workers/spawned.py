"""A process for each worker, on this machine: how it is made, reached and ended. `supervised.py` watches over them.

This file knows nothing about scoring.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from evomerge.search.workers.base import Job
from evomerge.search.workers.placing import placed
from evomerge.search.workers.supervised import Ending, SupervisedPool, Worker

#: Seconds that a message may take to come once it has begun.
MESSAGE_SECONDS = 60


@dataclass(kw_only=True)
class SpawnedWorker(Worker):
    """A worker, its process, this end of the line to it, and what `oom_kills` said when it was last known to live."""

    process: subprocess.Popen[bytes]
    connection: Connection
    oom_kills: int


class SpawnedPool(SupervisedPool[SpawnedWorker]):
    """One process a worker."""

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers.values():
            worker.connection.close()
        for worker in self._workers.values():
            try:
                worker.process.wait(2.0)
            except subprocess.TimeoutExpired:
                _kill(worker.process)
                worker.process.wait()
        self._workers = {}

    def _make(self, name: str, device: str) -> SpawnedWorker:
        ours, theirs = socket.socketpair()
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            # a worker that is stopped in the middle of a message holds nobody up
            ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", MESSAGE_SECONDS, 0))
        seen_as, environment = placed(device, self._devices, os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        command = [sys.executable, "-m", "evomerge.search.workers.process", str(theirs.fileno())]
        process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], env=environment, stdin=subprocess.DEVNULL, process_group=0
        )
        theirs.close()
        connection = Connection(ours.detach())
        with contextlib.suppress(OSError):  # died at once: the next look finds that
            connection.send((self._factory, seen_as))
        return SpawnedWorker(name, device, process=process, connection=connection, oom_kills=oom_kills())

    def _send(self, worker: SpawnedWorker, job: Job) -> None:
        with contextlib.suppress(OSError):  # died meanwhile: the next look finds that
            worker.connection.send(job)

    def _listen(self, seconds: float) -> None:
        by_connection: dict[Any, SpawnedWorker] = {worker.connection: worker for worker in self._workers.values()}
        for connection in wait(list(by_connection), seconds):
            worker = by_connection[connection]
            try:
                kind, value = worker.connection.recv()
            except (EOFError, OSError):
                self._replace(worker, None)
            else:
                worker.oom_kills = oom_kills()
                self._hear(worker, kind, value)

    def _end(self, worker: SpawnedWorker) -> Ending:
        _kill(worker.process)
        worker.connection.close()
        status = worker.process.wait()
        if status == -signal.SIGKILL and oom_kills() > worker.oom_kills:
            return Ending("was killed by the kernel, which was out of memory", memory=True)
        return Ending(_ended(status))


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a worker that was not waited for yet, and all that it has begun: it may be dead, and they may live."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def oom_kills() -> int:
    """Return how many processes of this host, in whatever group, were killed for want of memory; 0 if nobody knows."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def _ended(status: int) -> str:
    """Say how a process ended."""
    if status >= 0:
        return f"ended with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
