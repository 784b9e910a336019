"""Run programs that models wrote, and say which of them ran through their tests without an error.

Each program runs in a process of its own, forked from a small helper (the folder `jail`), with limits on wall clock,
CPU, memory, file size, open files and processes, in an empty environment and an empty folder. How it is cut off from
the host beyond that is the level in force: the first that this machine grants of

    bwrap            the helper runs in bubblewrap: no network, no other processes, no files but Python's library
    userns+landlock  namespaces of its own (no network, no other processes, nothing to write) and Landlock's rules
    landlock         Landlock's rules and a filter of system calls
    rlimits          limits and a filter of system calls: a program reads and writes what its user may

Made for careless code and simple cheating, not for a determined attacker; docs/sandbox.md says what holds and what does
not. This file knows nothing about tasks or models.
"""

import atexit
import json
import os
import secrets
import select
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError, WorkError, nearest
from evomerge.evaluation.counter import turned_round
from evomerge.evaluation.jail.confinement import SYSTEM
from evomerge.evaluation.jail.folder import clear
from evomerge.evaluation.jail.linux import PATIENCE

LEVELS = ("bwrap", "userns+landlock", "landlock", "rlimits")

_JAIL = Path(__file__).parent / "jail"
_BOOT = "import sys; sys.path.append(sys.argv[1]); from jail.zygote import main; sys.path.pop(); main()"
_GRACE = 15.0  # seconds beyond a program's own that its helper may take to answer
_LONGEST = 2**20  # characters of an answer's code
_LOSSES = 3  # helpers that a program may cost, before it is taken for the cause
_FIRST_USER = 1_600_000_000  # users from here on are given to helpers that are root; no system gives them to people


@dataclass(frozen=True)
class Program:
    """A program to run: the code of an answer, and the tests that are executed after it in the same namespace."""

    code: str
    tests: str


@dataclass(frozen=True)
class Verdict:
    """What became of a program.

    Attributes:
        passed: the code and all tests were executed to their end without an error.
        reason: "passed"; the name of an exception or signal; "timeout"; "left early" (it ended before its tests did);
            "forged" (it passes its tests turned round as well), "forged report", "left threads", "left processes";
            "too long", "too many processes", "too much memory", "too many files", "too large files"; "could not be
            killed", "killed its helper".
    """

    passed: bool
    reason: str

    def __bool__(self) -> bool:
        """Say whether it passed."""
        return self.passed


class Sandbox:
    """A pool of helpers that run programs; a context manager.

    Args:
        timeout: seconds that a program may take by the clock; four times as many while it computes and has not had the
            processor for so long, so that a busy machine does not decide a verdict.
        memory_mb: megabytes of address space of a program and of each process it starts.
        file_mb: megabytes of a file that a program writes.
        processes: how many processes and threads a program may have.
        workers: how many programs run at a time; default: the processors at hand, at most 4.
        require: the lowest level that will do.
        highest: the highest level to try.

    Raises `WorkError` if no level from `highest` down to `require` is granted here.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        memory_mb: int = 512,
        file_mb: int = 16,
        processes: int = 16,
        workers: int | None = None,
        require: str = "landlock",
        highest: str = "bwrap",
    ) -> None:
        self.timeout = timeout
        self._owner = os.getpid()
        limits = [str(timeout), str(memory_mb), str(file_mb), str(processes)]
        count = workers or min(4, len(os.sched_getaffinity(0)))
        self._refused: dict[str, str] = {}
        self._helpers = [self._first_helper(limits, require, highest)]
        self._lock = threading.Lock()
        try:
            self._helpers += [_Helper(self.level, limits) for _ in range(count - 1)]
        except BaseException:
            self.close()
            raise

    def _first_helper(self, limits: list[str], require: str, highest: str) -> "_Helper":
        for level in LEVELS[_rank(highest) : _rank(require) + 1]:
            try:
                return _Helper(level, limits)
            except _RefusedError as refused:
                self._refused[level] = str(refused)
        tried = "; ".join(f"{level}: {reason}" for level, reason in self._refused.items())
        raise WorkError(
            f"the sandbox for generated code does not reach level {require!r} here ({tried}): install bubblewrap, use "
            f"a kernel with Landlock (Linux 5.13 or later, with it switched on), or require a lower level "
            "(evaluation.sandbox) after reading in docs/sandbox.md what it leaves open"
        )

    def run(self, programs: Sequence[Program]) -> list[Verdict]:
        """Run programs and return their verdicts, in order.

        A helper that is lost is replaced and its program run again: no loss counts against a program unless the
        program costs one helper after the other while a harmless one does not. Raises `WorkError` if that one does.
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
        """The level in force, one of `LEVELS`."""
        return self._helpers[0].level

    def describe(self) -> str:
        """Return one line that says what programs can and cannot do here, and why no higher level is in force."""
        isolation = self._helpers[0].isolation
        words = {
            "network": ("no network", "the host's network"),
            "processes": ("no other processes in sight", "the host's processes in sight"),
            "signals": ("no signals to others", "signals to their user's processes"),
            "writing": ("writing in a scratch folder only", "writing as their user"),
            "reading": ("reading Python's library only", "reading as their user"),
            "user": ("as a user of their own", "as this user"),
            "calls": ("with a filter of system calls", "with all system calls"),
        }
        can = ", ".join(words[key][0 if value else 1] for key, value in isolation.items())
        why = "".join(f"; not {level}: {reason}" for level, reason in self._refused.items())
        return f"level {self.level}: programs run with limits, {can}{why}"

    def close(self) -> None:
        """End all helpers; in a fork of the process that started them, nothing."""
        if os.getpid() == self._owner:
            for helper in self._helpers:
                helper.stop()

    def __enter__(self) -> "Sandbox":
        """Return the sandbox itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End all helpers."""
        self.close()


def _rank(level: str) -> int:
    if level not in LEVELS:
        raise UsageError(f"unknown level of the sandbox {level!r}; {nearest(level, LEVELS)}")
    return LEVELS.index(level)


# -- the sandbox that all tasks of a process share ---------------------------------------------------------------------

_shared: dict[int, Sandbox] = {}  # by process: a fork must not talk to its parent's helpers
_required = ["landlock"]


def configure(*, require: str) -> None:
    """Set the lowest level that will do for the shared sandbox; to be called before its first use.

    Raises `UsageError` if there is no such level, `WorkError` if the sandbox has been started at a lower one.
    """
    running = _shared.get(os.getpid())
    if running is not None and _rank(running.level) > _rank(require):
        raise WorkError(f"the sandbox runs at level {running.level!r} already, {require!r} is required too late")
    _rank(require)
    _required[0] = require


def start() -> None:
    """Start the shared sandbox, if it is not: before models are loaded, so that memory is at hand and errors early."""
    shared_sandbox()


def shared_sandbox() -> Sandbox:
    """Return the sandbox that all tasks of this process share, started on first use."""
    process = os.getpid()
    if process not in _shared:
        _shared[process] = Sandbox(require=_required[0])
        atexit.register(_shared[process].close)
    return _shared[process]


# -- helpers -----------------------------------------------------------------------------------------------------------


class _RefusedError(Exception):
    """A level is not granted here; the message says why."""


class _HelperLostError(Exception):
    """The helper ended, or does not answer."""


class _Helper:
    """One helper process, restarted when it dies."""

    def __init__(self, level: str, limits: list[str]) -> None:
        self.level = level
        self.isolation: dict[str, bool] = {}
        self._timeout = float(limits[0])
        self._lock = threading.Lock()
        self._scratch: str | None = None
        self._arguments = [level, str(_FIRST_USER + secrets.randbelow(2**28)), *limits]
        self._start()

    def _start(self) -> None:
        # Not -I: that would ignore PYTHONHASHSEED, and a program's answer may hang on the order of a set.
        python = [os.path.realpath(sys.executable), "-S", "-s", "-P", "-c", _BOOT]
        if self.level == "bwrap":
            command = [*_bubblewrap(int(self._arguments[4])), *python, "/evomerge", *self._arguments]
        else:
            command = [*python, str(_JAIL.parent), *self._arguments]
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
        except OSError as error:
            raise WorkError(f"the sandbox for generated code cannot be started: {error}") from None
        assert self._process.stdin
        os.set_blocking(self._process.stdin.fileno(), False)
        try:
            isolation, more = self._read(_GRACE)
        except _HelperLostError:
            self.stop()
            raise _RefusedError("its helper does not start") from None
        if isolation is None:
            self.stop()
            raise _RefusedError(more)
        self.isolation, self._scratch = isolation, more

    def run(self, program: Program) -> Verdict:
        """Run one program, and if it passes, its tests turned round."""
        if len(program.code) > _LONGEST:
            return Verdict(False, "too long")
        with self._lock:
            verdict = self._attempt(program.code, program.tests)
            if verdict and (turned := turned_round(program.tests)) is not None and self._attempt(program.code, turned):
                return Verdict(False, "forged")
            return verdict

    def _attempt(self, code: str, tests: str) -> Verdict:
        """Run code and tests, again if the helper is lost."""
        for losses in range(1, _LOSSES + 1):
            try:
                return self._ask(code, tests)
            except _HelperLostError:
                self._replace()
            if losses > 1:  # twice is hardly chance: is it the program, or does something end helpers here?
                try:
                    self._ask("", "")
                except _HelperLostError:
                    self._replace()
                    raise WorkError(
                        "the sandbox's helpers are being killed, whatever they run; is memory or a process limit short?"
                    ) from None
        return Verdict(False, "killed its helper")

    def _ask(self, code: str, tests: str) -> Verdict:
        """Have the helper run code and tests once."""
        deadline = time.monotonic() + PATIENCE * self._timeout + _GRACE
        try:
            for text in (code, tests):
                self._write(text.encode(errors="surrogatepass"), deadline)
            passed, reason = self._read(deadline - time.monotonic())
        except (OSError, ValueError):  # ended, or its pipes closed with it
            raise _HelperLostError from None
        if passed is None:
            raise WorkError(f"the sandbox cannot limit generated code here, so none is run: {reason}")
        return Verdict(passed, reason)

    def _replace(self) -> None:
        refused = None
        for _ in range(_LOSSES):
            self.stop()
            try:
                return self._start()
            except _RefusedError as error:
                refused = error
        raise WorkError(f"the sandbox for generated code cannot be started again: {refused}")

    def stop(self) -> None:
        """End the helper and all it runs."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        if self._scratch is not None:
            _kill_processes_in(self._scratch)
            with suppress(OSError):
                clear(self._scratch)
                os.rmdir(self._scratch)
            self._scratch = None

    def _write(self, payload: bytes, deadline: float) -> None:
        assert self._process.stdin
        rest = memoryview(struct.pack(">I", len(payload)) + payload)
        file = self._process.stdin.fileno()
        while rest:
            if not select.select([], [file], [], max(0.0, deadline - time.monotonic()))[1]:
                raise _HelperLostError
            rest = rest[os.write(file, rest) :]

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


def _kill_processes_in(folder: str) -> None:
    """Kill what still runs in a lost helper's scratch folder."""
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with suppress(OSError):
            if os.readlink(link).startswith(folder + "/"):
                os.kill(int(link.parent.name), signal.SIGKILL)


def _bubblewrap(file_mb: int) -> list[str]:
    """Return the start of a command that runs Python in bubblewrap, with Python's library and nothing else to read."""
    program = shutil.which("bwrap")
    if program is None:
        raise _RefusedError("bubblewrap is not installed")
    unshare = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
    if os.geteuid() == 0:  # the helper gives its programs a user of their own, so it keeps what that takes
        kept = ("SETUID", "SETGID", "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL")
        unshare += ["--cap-drop", "ALL", *(word for name in kept for word in ("--cap-add", f"CAP_{name}"))]
    else:
        unshare.append("--unshare-user")
    python = os.path.realpath(sys.executable)
    bases = {"base": sys.base_prefix, "platbase": sys.base_exec_prefix}  # not those of a virtual environment
    library = sorted({sysconfig.get_path(name, vars=bases) for name in ("stdlib", "platstdlib")})
    shown = [path for path in SYSTEM if not path.startswith("/dev/")] + [*library, python]
    shown += map(str, Path(sys.base_prefix, "lib").glob("*.so*"))
    mounts = []
    for folder in sorted({str(parent) for path in library for parent in Path(path).parents} - {"/"}):
        mounts += ["--perms", "0755", "--dir", folder]  # another user has to pass through them
    for path in shown:
        mounts += ["--ro-bind-try", path, path]
    for installed in (Path(path, name) for path in library for name in ("site-packages", "dist-packages")):
        if installed.is_dir():
            mounts += ["--tmpfs", str(installed), "--remount-ro", str(installed)]
    return [
        *(program, *unshare, "--as-pid-1", "--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"),
        *(*mounts, "--ro-bind", str(_JAIL), "/evomerge/jail"),
        *("--perms", "0711", "--size", str(4 * file_mb * 2**20), "--tmpfs", "/tmp", "--remount-ro", "/", "--"),
    ]
