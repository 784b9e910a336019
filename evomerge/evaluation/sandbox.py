"""Run programs that models wrote, and say which of them ran to their end without an error.

Each program runs in a process of its own, forked from a small helper (`zygote.py`), with limits on wall clock, CPU,
memory, file size, open files and processes, an empty environment and an empty folder, and as far as the kernel allows
without network, without sight of other processes, and without a place to write but that folder. Made for careless
code, not for a determined attacker: a program that sets out to cheat can (an object whose `==` always says yes passes
any assert), and where the kernel refuses namespaces a program may write wherever its user may. `describe()` says what
holds here.

This file knows nothing about tasks or models.
"""

import atexit
import json
import os
import secrets
import select
import shutil
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evomerge.errors import WorkError

_ZYGOTE = Path(__file__).with_name("zygote.py")
_GRACE = 10.0  # seconds beyond a program's own that its helper may take to answer


@dataclass(frozen=True)
class Verdict:
    """What became of a program. `reason`: "passed", "timeout", "left early", or the name of an exception or signal."""

    passed: bool
    reason: str

    def __bool__(self) -> bool:
        """Say whether it passed."""
        return self.passed


class Sandbox:
    """A pool of helpers that run programs; a context manager.

    Args:
        timeout: seconds of wall clock (and of CPU, rounded up) that a program may take.
        memory_mb: megabytes of address space of a program and of each process it starts.
        file_mb: megabytes of a file that a program writes.
        processes: how many processes and threads a program may have, where the kernel counts them.
        workers: how many programs run at a time; default: the processors at hand, at most 4.

    Raises `WorkError` if no helper can be started.
    """

    def __init__(
        self,
        *,
        timeout: float = 3.0,
        memory_mb: int = 512,
        file_mb: int = 16,
        processes: int = 16,
        workers: int | None = None,
    ) -> None:
        self.timeout = timeout
        count = workers or min(4, len(os.sched_getaffinity(0)))
        self._helpers = [_Helper(timeout, memory_mb, file_mb, processes) for _ in range(count)]
        self._lock = threading.Lock()

    def run(self, programs: Sequence[str]) -> list[Verdict]:
        """Run programs (each with its asserts at its end) and return their verdicts, in order.

        A program whose helper dies under it is tried once more in a new one, then it has failed.
        """
        verdicts: list[Verdict | BaseException | None] = [None] * len(programs)
        waiting = iter(range(len(programs)))

        def work(helper: _Helper) -> None:
            while True:
                with self._lock:
                    index = next(waiting, None)
                if index is None:
                    return
                try:
                    verdicts[index] = helper.run(programs[index])
                except BaseException as error:
                    verdicts[index] = error
                    return

        threads = [threading.Thread(target=work, args=(helper,)) for helper in self._helpers[1 : len(programs)]]
        for thread in threads:
            thread.start()
        work(self._helpers[0])
        for thread in threads:
            thread.join()
        for verdict in verdicts:
            if isinstance(verdict, BaseException):
                raise verdict
        return [verdict for verdict in verdicts if isinstance(verdict, Verdict)]

    @property
    def level(self) -> str:
        """How programs are kept in: "namespaces" (no network, other processes or files) or "limits" (limits only)."""
        isolation = self._helpers[0].isolation
        return "namespaces" if isolation["network"] and isolation["processes"] and isolation["files"] else "limits"

    def describe(self) -> str:
        """Return one line that says what programs can and cannot do here."""
        isolation = self._helpers[0].isolation
        words = {
            "network": ("no network", "the host's network"),
            "processes": ("no other processes", "the host's processes in sight"),
            "files": ("a read-only file system", "the file system of their user"),
            "user": ("as user nobody", "as this user"),
        }
        can = [words[key][0 if value else 1] for key, value in isolation.items()]
        return f"level {self.level}: programs run with limits, " + ", ".join(can)

    def close(self) -> None:
        """End all helpers."""
        for helper in self._helpers:
            helper.stop()

    def __enter__(self) -> "Sandbox":
        """Return the sandbox itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End all helpers."""
        self.close()


@lru_cache(maxsize=1)
def shared_sandbox() -> Sandbox:
    """Return the sandbox that all tasks of this process share, started on first use."""
    sandbox = Sandbox()
    atexit.register(sandbox.close)
    return sandbox


class _HelperLostError(Exception):
    """The helper ended, or does not answer."""


class _Helper:
    """One helper process, restarted when it dies."""

    def __init__(self, timeout: float, memory_mb: int, file_mb: int, processes: int) -> None:
        self._timeout = timeout
        self.isolation: dict[str, bool] = {}
        self._scratch: str | None = None
        self._arguments = [str(timeout), str(memory_mb), str(file_mb), str(processes)]
        self._start()

    def _start(self) -> None:
        # Not -I: that would ignore PYTHONHASHSEED, and a program's answer may hang on the order of a set.
        command = [sys.executable, "-S", "-s", "-P", str(_ZYGOTE), *self._arguments]
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                cwd="/",
                env={"PYTHONHASHSEED": "0"},
                start_new_session=True,
            )
            self.isolation, self._scratch = self._read(_GRACE)
        except (OSError, _HelperLostError):
            raise WorkError("the sandbox for generated code cannot be started; is a process limit reached?") from None

    def run(self, program: str) -> Verdict:
        """Run one program, once more if the helper dies under it."""
        for _ in range(2):
            try:
                self._write(program.encode(errors="replace"))
                self._write(secrets.token_hex(16).encode())
                passed, reason = self._read(self._timeout + _GRACE)
                if passed is None:
                    raise WorkError(f"the sandbox cannot limit generated code here, so none is run: {reason}")
                return Verdict(passed, reason)
            except (OSError, _HelperLostError):
                self.stop()
                self._start()
        return Verdict(False, "killed its helper")

    def stop(self) -> None:
        """End the helper and all it runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        if self._scratch is not None:  # on the host, where the kernel refused a file system in memory
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _write(self, payload: bytes) -> None:
        assert self._process.stdin
        data = struct.pack(">I", len(payload)) + payload
        while data:
            data = data[self._process.stdin.write(data) or 0 :]

    def _read(self, seconds: float) -> Any:
        deadline = time.monotonic() + seconds
        (length,) = struct.unpack(">I", self._read_exactly(4, deadline))
        return json.loads(self._read_exactly(length, deadline))

    def _read_exactly(self, length: int, deadline: float) -> bytes:
        assert self._process.stdout
        file = self._process.stdout.fileno()
        data = b""
        while len(data) < length:
            ready, _, _ = select.select([file], [], [], max(0.0, deadline - time.monotonic()))
            part = os.read(file, length - len(data)) if ready else b""
            if not part:
                raise _HelperLostError
            data += part
        return data
