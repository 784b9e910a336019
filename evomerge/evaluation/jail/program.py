"""The process of one program: executes the answer's code, then its tests, and reports. Never returns.

Two stages. The code is executed first, while no test is in the process. Only when it has come to its end are the tests
read, and after their last line a number is read that proves it. What the code may have bent in the meantime is put
back between the stages: the builtins, loaded modules, hooks that trace, profile or watch, timers.

Whoever controls the process can say what this file says; that is what the sandbox's counter-check is for.
"""

import builtins
import gc
import math
import os
import random
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, NoReturn

from .confinement import Confinement
from .linux import MEGABYTE, Limits

NUMBER = 32  # bytes of a number that proves something
FUTURE = 0x1FE0000  # compiler flags of `from __future__`, which the tests share with the code as if they were one file

# What programs import most, loaded once in the helper instead of in every fork.
PRELOADED = """bisect cmath collections copy datetime decimal fractions functools heapq itertools math operator queue
random re statistics string textwrap time typing"""
for _name in PRELOADED.split():
    __import__(_name)


def play(code: bytes, folder: str, to_us: int, from_us: int, limits: Limits, confinement: Confinement) -> NoReturn:
    """Execute a program under its limits and report."""
    # Held as locals, since a program may put its own functions into modules.
    write, leave, who = os.write, os._exit, os.getpid
    me = who()
    try:
        prepare(folder, {to_us, from_us}, limits, confinement)
    except BaseException as error:
        write(to_us, f"broken {type(error).__name__}: {error}".encode()[:200])
        leave(1)
    try:
        execute(code, to_us, from_us)
    except BaseException as error:
        try:
            if who() == me:  # not in a fork of the program's own
                write(to_us, b"raised " + type(error).__name__.encode(errors="replace")[:100])
        finally:
            leave(1)
    leave(0)


def prepare(folder: str, kept: set[int], limits: Limits, confinement: Confinement) -> None:
    """Close what is open, enter the program's folder, and take on limits and confinement."""
    os.setsid()
    nowhere = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    if confinement.rules is not None:
        kept = kept | {confinement.rules}
    low = 3
    for file in [*sorted(kept), 65536]:
        os.closerange(low, file)
        low = file + 1
    os.chdir(folder)
    limit(limits)
    confinement.enforce()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    random.seed(0)  # a score does not hang on chance
    tempfile.tempdir = None
    for name in [name for name in sys.modules if name == "__main__" or name.startswith("jail")]:
        del sys.modules[name]
    sys.modules["__main__"] = ModuleType("__main__")


def limit(limits: Limits) -> None:
    """Set the kernel's limits on this process and all it starts."""
    cpu = max(1, int(limits.seconds + 0.999))
    for kind, soft, hard in (
        (resource.RLIMIT_CPU, cpu, cpu + 1),
        (resource.RLIMIT_AS, limits.memory_mb * MEGABYTE, limits.memory_mb * MEGABYTE),
        (resource.RLIMIT_FSIZE, limits.file_mb * MEGABYTE, limits.file_mb * MEGABYTE),
        (resource.RLIMIT_NOFILE, 64, 64),
        (resource.RLIMIT_NPROC, limits.processes, limits.processes),
        (resource.RLIMIT_CORE, 0, 0),
    ):
        most = resource.getrlimit(kind)[1]  # a batch system may have set a lower one
        if most != resource.RLIM_INFINITY:
            soft, hard = min(soft, most), min(hard, most)
        resource.setrlimit(kind, (soft, hard))
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")  # where memory runs out, the kernel ends programs before anything of the host
    except OSError:
        pass  # /proc is not there, or not ours


def execute(code: bytes, to_us: int, from_us: int) -> None:
    """Execute code and tests in one namespace and report; what the code raises is raised."""
    write, read, leave, who, run, translate = os.write, os.read, os._exit, os.getpid, exec, compile
    me, put_back = who(), Restorer()
    space: dict[str, object] = {}
    first: CodeType = translate(code.decode(errors="surrogatepass"), "<program>", "exec", dont_inherit=True)
    flags = first.co_flags & FUTURE
    run(first, space)
    if who() != me:
        leave(0)
    put_back(space)
    write(to_us, b"ready")
    left = int.from_bytes(read(from_us, 4), "big")
    parts = []
    while left and (part := read(from_us, left)):
        parts.append(part)
        left -= len(part)
    tests = b"".join(parts).decode(errors="surrogatepass")
    parts.clear()
    second = translate(tests, "<tests>", "exec", flags, True)
    tests = ""
    run(second, space)
    if who() != me:
        leave(0)
    put_back(space)
    write(to_us, b"done " + read(from_us, NUMBER))
    write(to_us, b"passed " + read(from_us, NUMBER))
    leave(0)


class Restorer:
    """Puts back what a program may have bent. Made before the program, and calls nothing by a name that it can bend."""

    def __init__(self) -> None:
        if hasattr(sys, "addaudithook"):
            del sys.addaudithook  # such a hook could not be taken away again
        self._calls: list[tuple[Callable[..., object], tuple[object, ...]]] = [
            (sys.setprofile, (None,)),
            (sys.settrace, (None,)),
            *(
                (signal.setitimer, (timer, 0))
                for timer in (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
            ),
        ]
        lists: list[list[Any]] = [sys.meta_path, sys.path_hooks, gc.callbacks]
        self._lists = [(live, list(live)) for live in lists]
        self._names = [(live, dict(live)) for live in (vars(builtins), vars(math), sys.modules)]
        self._builtins = vars(builtins)
        self._monitoring = getattr(sys, "monitoring", None)  # from Python 3.12 on
        self._free = _free_tools

    def __call__(self, space: dict[str, object]) -> None:
        """Put it back, in the program's namespace too."""
        for call, arguments in self._calls:
            call(*arguments)
        for names, pristine in self._names:
            names.update(pristine)
        for entries, before in self._lists:
            entries[:] = before
        space["__builtins__"] = self._builtins
        if self._monitoring is not None:
            self._free(self._monitoring)


def _free_tools(monitoring: Any) -> None:
    """Take away all tools that watch what is executed."""
    for tool in range(6):
        if monitoring.get_tool(tool) is not None:
            monitoring.set_events(tool, 0)
            for name, event in vars(monitoring.events).items():
                if not name.startswith("_") and event:
                    monitoring.register_callback(tool, event, None)
            monitoring.free_tool_id(tool)
