"""The helper process of the sandbox: forks itself once a program, so that a program costs two milliseconds, not
twenty.

Frames on standard input and output: four bytes of length, big endian, and the payload. Out: JSON [isolation, scratch
folder on the host or null], or JSON [null, what is missing] where the level cannot be reached. Then, for each program:
in, its code; in, its tests; out, JSON [passed, reason] (passed is null if it could not be run). End of input ends the
helper.

The tests are read when the code has come to its end, and their bytes are wiped after use: a program is a copy of this
process, and finds no tests in its memory. The numbers that prove a pass are made after the fork, and asked for one
after the other: the first lies in the pipe behind the tests, the second is sent in exchange for the first.
"""

import gc
import json
import os
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace

from . import processes, program
from .confinement import Confinement, confine
from .folder import clear
from .linux import MEGABYTE, PATIENCE, Limits, RefusedError

SLICE = 0.05  # seconds between two looks at what a program uses
JOINED = 0.2  # seconds that a thread which has been joined may need to be gone


class EndedError(Exception):
    """A program's process does not go on as an honest one would; the message is the reason of its verdict."""


class Attempt:
    """One program in its fork, seen from the helper."""

    def __init__(self, code: bytes, limits: Limits, confinement: Confinement) -> None:
        self._limits, self._confinement = limits, confinement
        folder = os.path.join(confinement.scratch, "work")
        os.mkdir(folder)
        if confinement.user is not None:
            os.chown(folder, confinement.user, confinement.user)
        self._hear, to_us = os.pipe()
        from_us, self._tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            program.play(code, folder, to_us, from_us, limits, confinement)
        os.close(to_us)
        os.close(from_us)
        self._deadline = time.monotonic() + limits.seconds
        self._status: int | None = None

    def judge(self, tests: "Tests") -> tuple[bool | None, str]:
        """Lead the program through its stages; returns whether it passed, and the reason."""
        try:
            self._expect(b"ready")
            patience = time.monotonic() + JOINED
            while processes.threads(self._pid) > 1:
                if time.monotonic() > patience:
                    raise EndedError("left threads")
                time.sleep(0.001)
            if not processes.kill_all_but(self._pid, time.monotonic() + JOINED):
                raise EndedError("left processes")
            first, second = os.urandom(program.NUMBER // 2).hex().encode(), os.urandom(16).hex().encode()
            tests.pass_on(self._send)
            self._send(first)
            self._expect(b"done " + first)
            self._send(second)
            self._expect(b"passed " + second)
        except EndedError as ended:
            reason = str(ended)
            return (None, reason[7:]) if reason.startswith("broken ") else (False, reason)
        return True, "passed"

    def close(self) -> bool:
        """End the program and all it started, and remove its files; returns whether that worked."""
        os.close(self._hear)
        os.close(self._tell)
        gone = processes.sweep(self._confinement)
        clear(self._confinement.scratch)
        return gone

    def _expect(self, words: bytes) -> None:
        """Wait for these words of the program."""
        said = self._next()
        if not said:
            raise self._end()
        if said == words:
            return
        if said.startswith(b"raised ") and len(said) < 200:
            raise EndedError(said[7:].decode(errors="replace"))
        if said.startswith(b"broken ") and words == b"ready":
            raise EndedError(said.decode(errors="replace"))
        raise EndedError("forged report")

    def _end(self) -> EndedError:
        """Return what to say of a program that has ended without a word."""
        if self._status is None or not os.WIFSIGNALED(self._status):
            return EndedError("left early")
        number = os.WTERMSIG(self._status)
        if number == signal.SIGXCPU:
            return EndedError("timeout")
        return EndedError(signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}")

    def _next(self) -> bytes:
        """Return what the program says next; nothing if it has ended."""
        poll = select.poll()
        poll.register(self._hear, select.POLLIN)
        while True:
            pause = min(self._left(), SLICE)
            if poll.poll(1000 * pause):
                if said := os.read(self._hear, 4096):
                    return said
                if not self._look():  # it has closed its end, but lives
                    signal.sigtimedwait([signal.SIGCHLD], pause)
            self._look()
            if self._status is not None:
                # What it said last may have come after we looked.
                return os.read(self._hear, 4096) if poll.poll(0) else b""

    def _send(self, data: bytes | bytearray) -> None:
        """Write to the program, which may not read."""
        os.set_blocking(self._tell, False)
        poll = select.poll()
        poll.register(self._tell, select.POLLOUT)
        rest = memoryview(data)
        while rest:
            if poll.poll(1000 * min(self._left(), SLICE)):
                try:
                    rest = rest[os.write(self._tell, rest) :]
                except BrokenPipeError:
                    return  # its last words say why
            elif self._look():
                return

    def _left(self) -> float:
        """Return the seconds that the program has left."""
        left = self._deadline - time.monotonic()
        if left > 0:
            return left
        # On a busy machine a program is not to fail for the time that others had: it goes on while it computes.
        starved = left > (1 - PATIENCE) * self._limits.seconds
        if starved and processes.running_seconds(self._pid) < self._limits.seconds:
            return SLICE
        raise EndedError("timeout")

    def _look(self) -> bool:
        """See whether the program has ended; raises if it takes too much."""
        if self._status is None:
            done, status = os.waitpid(self._pid, os.WNOHANG)
            if done:
                self._status = status
            elif reason := processes.excess(self._limits, self._confinement.scratch):
                raise EndedError(reason)
        return self._status is not None


class Tests:
    """The tests of a program, on standard input until they are wanted; their bytes are wiped after use."""

    def __init__(self) -> None:
        self._taken = False

    def pass_on(self, send: Callable[[bytes | bytearray], None]) -> None:
        """Send them to the program."""
        data = self._take()
        try:
            send(struct.pack(">I", len(data)))
            send(data)
        finally:
            data[:] = bytes(len(data))

    def skip(self) -> None:
        """Read them where nobody has."""
        if not self._taken:
            data = self._take()
            data[:] = bytes(len(data))

    def _take(self) -> bytearray:
        self._taken = True
        (length,) = struct.unpack(">I", read_exactly(4))
        return read_exactly(length)


def run(code: bytes, limits: Limits, confinement: Confinement) -> tuple[bool | None, str]:
    """Run one program in a fork, and return whether it passed and the reason; None if it could not be run."""
    tests = Tests()
    attempt = Attempt(code, limits, confinement)
    try:
        passed, reason = attempt.judge(tests)
    finally:
        gone = attempt.close()
    tests.skip()
    if not gone:
        write_frame([False, "could not be killed"])
        sys.exit(1)
    return passed, reason


# -- frames ------------------------------------------------------------------------------------------------------------


def read_frame() -> bytes:
    """Read one frame from standard input; `EOFError` at its end."""
    (length,) = struct.unpack(">I", read_exactly(4))
    return bytes(read_exactly(length))


def read_exactly(length: int) -> bytearray:
    """Read so many bytes from standard input, with no copy of them elsewhere in memory."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        read = os.readv(0, [view[:MEGABYTE]])
        if not read:
            raise EOFError
        view = view[read:]
    return data


def write_frame(payload: object) -> None:
    """Write plain data as one frame to standard output."""
    data = json.dumps(payload).encode()
    os.write(1, struct.pack(">I", len(data)) + data)


def main() -> None:
    """Say how far programs are cut off, then run them until standard input ends."""
    level, user, seconds, *numbers = sys.argv[2:]
    sys.argv[:] = [""]
    os.environ.clear()
    limits = Limits(float(seconds), *map(int, numbers))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    for number in (signal.SIGTERM, signal.SIGUSR2):  # a scheduler's words to a whole job, which no program failed for
        signal.signal(number, signal.SIG_IGN)
    try:
        confinement = confine(level, limits, int(user))
    except RefusedError as refused:
        write_frame([None, str(refused)])
        return
    processes.sweep(confinement)  # what a killed predecessor has left
    gc.freeze()  # or every program's garbage collection would copy all our memory
    write_frame([asdict(confinement.isolation), confinement.scratch if confinement.on_host else None])
    try:
        while True:
            code = read_frame()
            others = 0 if confinement.own_processes or confinement.user else processes.of_this_user()
            write_frame(run(code, replace(limits, processes=limits.processes + others), confinement))
    except (EOFError, BrokenPipeError):
        pass
    finally:
        if confinement.on_host:
            os.rmdir(confinement.scratch)
