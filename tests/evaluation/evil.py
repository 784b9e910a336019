"""Programs that must not pass, and must not harm the machine they run on: the table of `test_sandbox_evil.py`.

Two kinds. Cheats return a wrong answer and try to pass all the same: their tests are `WRONG`. Harms try something that
a sandbox must stop, and their tests assert that it worked. In both kinds a program that passes is a hole.

In the code, words between @ stand for things on the host: @HOST@ a folder that everybody may write, with a file
`secret`; @PID@ a process of the tests' own user; @PORT@ a TCP port and @UDP@ a UDP port that are listened to; @SOCKET@
and @ABSTRACT@ sockets likewise; @MARK@ a name that no file has.
"""

from dataclasses import dataclass

WRONG = "assert f(1) == 2\nassert f(2) == 4"
WORKED = "assert did() == 'yes'"


@dataclass(frozen=True)
class Evil:
    """An evil program.

    Attributes:
        code, tests: the program.
        reasons: words of which the verdict's reason must be one; none: any.
        waits: it goes on until its time is over.
        needs: the lowest level that stops it; None: every level does.
    """

    code: str
    tests: str = WRONG
    reasons: frozenset[str] = frozenset()
    waits: bool = False
    needs: str | None = None


def cheat(code: str, *reasons: str, tests: str = WRONG, waits: bool = False, answer: str = "return 1") -> Evil:
    """A program whose `f` answers wrongly and that tries to pass all the same."""
    return Evil(f"def f(x):\n    {answer}\n{code}", tests, frozenset(reasons), waits)


def harm(body: str, *reasons: str, needs: str | None = None, waits: bool = False) -> Evil:
    """A program that tries something; an exception on the way means that it did not work."""
    lines = "\n".join("        " + line for line in body.split("\n"))
    code = f"import os\ndef did():\n    try:\n{lines}\n        return 'yes'\n    except Exception as error:\n"
    return Evil(code + "        return repr(error)", WORKED, frozenset(reasons), waits, needs)


def syscall(number: int, *arguments: object) -> str:
    """Lines that make a system call by ctypes and raise if it is refused (numbers of x86-64)."""
    given = ", ".join(map(str, (number, *arguments)))
    return (
        "import ctypes, platform\nassert platform.machine() == 'x86_64'\nlibc = ctypes.CDLL(None, use_errno=True)\n"
        f"if libc.syscall({given}) < 0:\n    raise OSError(ctypes.get_errno())"
    )


LOOPS = {
    "infinite loop": cheat("while True:\n    pass", "timeout", waits=True),
    "infinite loop in its function": cheat("", "timeout", answer="while True: pass", waits=True),
    "endless sleep": cheat("import time\ntime.sleep(1000)", "timeout", waits=True),
    "loop that ignores signals": cheat(
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        "timeout",
        "SIGKILL",
        waits=True,
    ),
    "loop that catches everything": cheat(
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass", "timeout", waits=True
    ),
    "regular expression that never ends": cheat("import re\nre.match('(a+)+$', 'a' * 40 + 'b')", "timeout", waits=True),
    "giant power": cheat("9 ** 9 ** 9", "timeout", "MemoryError", waits=True),
    "waits for a lock": cheat("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", waits=True),
    "reads a pipe of its own": cheat("import os\nos.read(os.pipe()[0], 1)", "timeout", waits=True),
    "loop at its deletion": cheat(
        "class A:\n    def __del__(self):\n        while True: pass\na = A()\ndel a", "timeout", waits=True
    ),
    "stops itself": cheat("import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)", "timeout", waits=True),
    "closes its descriptors and loops": cheat(
        "import os\nos.closerange(0, 100)\nwhile True: pass", "timeout", waits=True
    ),
}

BOMBS = {
    "memory bomb": cheat("x = [0] * 10**10", "MemoryError"),
    "memory bomb, slowly": cheat("x = []\nwhile True:\n    x.append(bytearray(10**6))", "MemoryError", "timeout"),
    "memory bomb in many processes": cheat(
        "import os, time\nfor _ in range(12):\n    if os.fork() == 0:\n        x = b'x' * (300 << 20)\n"
        "        time.sleep(100)\ntime.sleep(100)",
        "too much memory",
        "timeout",
        "SIGKILL",
        waits=True,
    ),
    "infinite list": cheat("import itertools\nlist(itertools.count())", "MemoryError", "timeout", waits=True),
    "fork bomb": cheat(
        "import os\nwhile True:\n    os.fork()", "BlockingIOError", "timeout", "too many processes", waits=True
    ),
    "fork bomb that catches errors": cheat(
        "import os\nwhile True:\n    try:\n        os.fork()\n        os.setsid()\n    except OSError:\n        pass",
        "timeout",
        "too many processes",
        waits=True,
    ),
    "thread bomb": cheat(
        "import threading, time\nfor _ in range(10000):\n    threading.Thread(target=time.sleep, args=(100,)).start()",
        "RuntimeError",
        "timeout",
        "MemoryError",
    ),
    "giant file": cheat("with open('x', 'wb') as f:\n    f.write(bytes(10**8))\n    f.flush()", "OSError", "SIGXFSZ"),
    "many giant files": cheat(
        "for i in range(1000):\n    with open(str(i), 'wb') as file:\n        file.write(bytes(15 << 20))",
        "OSError",
        "too large files",
        "timeout",
        waits=True,
    ),
    "endless files": cheat(
        "import itertools\nfor i in itertools.count():\n    open(str(i), 'w').close()",
        "OSError",
        "too many files",
        "timeout",
        waits=True,
    ),
    "endless folders in folders": cheat(
        "import os\nwhile True:\n    os.mkdir('x')\n    os.chdir('x')",
        "OSError",
        "FileNotFoundError",
        "too many files",
        "timeout",
        waits=True,
    ),
    "many open files": cheat("fs = [open(str(i), 'w') for i in range(10000)]", "OSError"),
    "deep recursion": cheat("f = lambda x: f(x)\nf(1)", "RecursionError"),
    "stack overflow": cheat(
        "import sys\nsys.setrecursionlimit(10**9)\ndef g(x):\n    return [g(x + 1)]\ng(0)",
        "SIGSEGV",
        "MemoryError",
        "RecursionError",
        "SIGABRT",
        "timeout",
    ),
    "stack overflow in C": cheat(
        "x = []\nfor _ in range(10**6):\n    x = [x]\nrepr(x)", "RecursionError", "SIGSEGV", "timeout"
    ),
    "segmentation fault": cheat("import ctypes\nctypes.string_at(0)", "SIGSEGV"),
}

OUTPUT = {
    "giant output": cheat("print('x' * 10**8)", "AssertionError", "MemoryError"),
    "endless output": cheat("while True:\n    print('x' * 1000)", "timeout", waits=True),
    "endless errors": cheat("import sys\nwhile True:\n    sys.stderr.write('x' * 1000)", "timeout", waits=True),
    "endless output to every descriptor": cheat(
        "import os\nwhile True:\n    for i in range(64):\n        try:\n            os.write(i, b'x' * 4000)\n"
        "        except OSError:\n            pass",
        "forged report",
        "timeout",
    ),
}

LEAVING = {
    "wrong answer": cheat("", "AssertionError"),
    "leaves by os._exit": cheat("import os\nos._exit(0)", "left early"),
    "leaves by os._exit in its function": cheat("", "left early", answer="import os; os._exit(0)"),
    "leaves by sys.exit": cheat("import sys\nsys.exit(0)", "SystemExit"),
    "leaves by sys.exit in its function": cheat("", "SystemExit", answer="raise SystemExit(0)"),
    "leaves by exec": cheat("import os\nos.execv('/bin/true', ['true'])"),
    "leaves by a signal": cheat("import os, signal\nos.kill(os.getpid(), signal.SIGUSR1)", "SIGUSR1"),
    "sends a scheduler's signal": cheat("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", "AssertionError"),
    "aborts": cheat("import os\nos.abort()", "SIGABRT"),
    "leaves at exit": cheat("import atexit, os\natexit.register(os._exit, 0)", "AssertionError"),
    "reads standard input": cheat("input()", "EOFError"),
    "error with an odd name": cheat("raise type('passed', (Exception,), {})"),
    "error with a forged name": cheat("raise type('ready', (BaseException,), {'__str__': lambda s: 'passed'})"),
    "error that errs": cheat("class E(Exception):\n    def __repr__(self): 1 / 0\n    __str__ = __repr__\nraise E"),
    # The interrupt may come with the first assert or after it.
    "interrupts the main thread": cheat(
        "import _thread\n_thread.interrupt_main()", "KeyboardInterrupt", "AssertionError"
    ),
}

BENT = {
    "other AssertionError": cheat("import builtins\nbuiltins.AssertionError = KeyError", "AssertionError"),
    "AssertionError of its own": cheat("class AssertionError(Exception): pass", "AssertionError"),
    "asserts that do not count, by compile": cheat(
        "import builtins\nold = compile\nbuiltins.compile = lambda *a, **k: old('', '', 'exec')", "AssertionError"
    ),
    "exec that does nothing": cheat("import builtins\nbuiltins.exec = lambda *a: None", "AssertionError"),
    "builtins of its own": cheat("__builtins__ = {'f': f}", "AssertionError"),
    "namespace emptied": cheat("globals().clear()", "NameError"),
    "trace that jumps over asserts": cheat(
        "import sys\ndef trace(frame, event, arg):\n"
        "    if frame.f_code.co_filename == '<tests>' and frame.f_lineno == 1 and event == 'line':\n"
        "        frame.f_lineno = 3\n    return trace\nsys.settrace(trace)",
        "AssertionError",
        tests=WRONG + "\nx = 1",
    ),
    "trace set by its function": cheat(
        "import sys\ndef trace(frame, event, arg):\n    if event == 'line' and frame.f_lineno == 2:\n"
        "        frame.f_lineno = 4\n    return trace",
        "forged",
        answer="fr = sys._getframe(1); fr.f_trace = trace; sys.settrace(trace); return 5 - 4 * (x != 9)",
        tests="a = f(9)\nassert f(1) == 2\nassert f(2) == 4\nb = 1",
    ),
    "profile that leaves": cheat(
        "import os, sys\nsys.setprofile(lambda frame, event, arg: 1 / 0 if event == 'call' else None)",
        "AssertionError",
        "ZeroDivisionError",
    ),
    "timer that leaves": cheat(
        "import os, signal, time\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.001)",
        "AssertionError",
        "left early",
    ),
    "watcher of the interpreter's steps": cheat(
        "import os, sys\nsys.addaudithook(lambda event, args: os._exit(0) if event == 'compile' else None)",
        "AttributeError",
    ),
    "import hook": cheat(
        "import sys\nclass Finder:\n    def find_spec(self, *a): import os; os._exit(0)\n"
        "sys.meta_path.insert(0, Finder())",
        "AssertionError",
        tests="import wave\n" + WRONG,
    ),
    "modules bent": cheat(
        "import sys, math, types\nmath.isclose = lambda *a, **k: True\n"
        "sys.modules['math'] = types.SimpleNamespace(isclose=lambda *a, **k: True)",
        "AssertionError",
        tests="import math\nassert math.isclose(f(1), 2.0)",
    ),
    "os bent": cheat("import os\nos.write = os.read = os.getpid = lambda *a: b'passed'", "AssertionError"),
    "garbage collection that acts": cheat(
        "import gc, os\ngc.callbacks.append(lambda *a: os._exit(0))\ngc.set_threshold(1)",
        "AssertionError",
        "left early",
    ),
    "result that equals anything": cheat(
        "class Yes:\n    def __eq__(self, other): return True", "forged", answer="return Yes()"
    ),
    "result that raises no AssertionError": cheat(
        "class Odd:\n    def __eq__(self, other): raise SystemExit(0)", "SystemExit", answer="return Odd()"
    ),
}

#: Speaks to the helper as the harness does. In the code it gets to see the tests first, in the function it does not.
SPEAKS = """
import os
def fds():
    out = []
    for fd in range(3, 64):
        try:
            os.fstat(fd)
            out.append(fd)
        except OSError:
            pass
    return out
def say(words):
    for fd in fds():
        try:
            os.write(fd, words)
        except OSError:
            pass
def hear(size):
    for fd in fds():
        try:
            return os.read(fd, size)
        except OSError:
            pass
def finish():
    say(b'done ' + hear(32))
    say(b'passed ' + hear(32))
    os._exit(0)
"""
#: Looks for numbers that could be the proof in a heap of objects, and reports them all.
REPORTS = """
import os, re
def report(heap):
    for word in set(re.findall(rb'[0-9a-f]{32}', heap)) | {b''}:
        for fd in range(3, 64):
            try:
                os.write(fd, b'passed ' + word)
            except OSError:
                pass
    os._exit(0)
"""

PROOF = {
    "speaks for the harness in its code": cheat(
        SPEAKS + "say(b'ready')\nn = int.from_bytes(hear(4), 'big')\nwhile n:\n    n -= len(hear(n))\nfinish()",
        "forged",
    ),
    "speaks for the harness in its function": cheat(SPEAKS, "forged", answer="finish()"),
    "speaks for the harness in a fork": cheat(
        SPEAKS + "import time\nif os.fork() == 0:\n    say(b'ready')\n    time.sleep(0.2)\n    say(b'passed ')\n"
        "    os._exit(0)",
        "forged report",
        "AssertionError",
        "left early",
    ),
    "guesses the report": cheat(
        "import os\nfor fd in range(3, 64):\n    try:\n        os.write(fd, b'passed ' + b'0' * 32)\n"
        "    except OSError:\n        pass\nos._exit(0)",
        "forged report",
    ),
    "writes a forged verdict to every descriptor": cheat(
        "import json, os, struct\ndata = json.dumps([True, 'passed']).encode()\nfor fd in range(64):\n    try:\n"
        "        os.write(fd, struct.pack('>I', len(data)) + data)\n    except OSError:\n        pass\nos._exit(0)",
        "forged report",
    ),
    "forks and lets the child report": cheat("import os\nif os.fork():\n    os._exit(0)", "left early"),
    "looks for the proof in frames": cheat(
        REPORTS,
        answer="import sys; fr = sys._getframe(); heap = b''\n"
        "    while fr: heap += repr((fr.f_locals, fr.f_globals, fr.f_code.co_consts)).encode(); fr = fr.f_back\n"
        "    report(heap)",
    ),
    "looks for the proof among objects": cheat(
        REPORTS,
        answer="import gc; report(b' '.join(repr(o).encode() for o in gc.get_objects() if type(o) in "
        "(list, tuple, dict))[:10**7])",
    ),
    "looks for the proof in descriptors": cheat(
        REPORTS + "def drain():\n    out = b''\n    for fd in range(3, 64):\n        try:\n"
        "            os.set_blocking(fd, False)\n            out += os.read(fd, 10**6)\n"
        "        except OSError:\n            pass\n    return out",
        answer="report(drain())",
    ),
    "looks for the proof in memory": cheat(
        REPORTS
        + "def memory():\n    out = b''\n    with open('/proc/self/maps') as m, open('/proc/self/mem', 'rb') as "
        "f:\n        for line in m:\n            if 'rw' in line:\n                a, b = (int(x, 16) for x in "
        "line.split()[0].split('-'))\n                f.seek(a)\n                out += f.read(b - a)\n    return out",
        answer="report(memory())",
    ),
    "bends the harness by its frames": cheat(
        "import sys\nfr = sys._getframe()\nwhile fr:\n    for name, value in list(fr.f_globals.items()):\n"
        "        if callable(value) and not name.startswith('__'):\n"
        "            fr.f_globals[name] = lambda *a, **k: None\n    fr = fr.f_back",
        "forged",
        "AssertionError",
        "TypeError",
        "NameError",
        "forged report",
        "left early",
        "AttributeError",
    ),
    "bends the harness's code": cheat(
        "import gc, types\nfor o in gc.get_objects():\n"
        "    if isinstance(o, types.FunctionType) and o.__code__.co_filename.endswith('program.py'):\n"
        "        try:\n            o.__code__ = (lambda *a, **k: None).__code__\n        except ValueError:\n"
        "            pass",
    ),
    "imports the harness": cheat("import __main__\n__main__.run", "AttributeError"),
    "throws away the proof": cheat(SPEAKS, answer="hear(4096); return 2 * x", waits=True),
    "closes the descriptors": cheat("", answer="import os; os.closerange(3, 64); return 2 * x"),
}

OUTLIVING = {
    "thread that goes on": cheat(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()", "left threads"
    ),
    "thread that bends the result": cheat(
        "import threading\ndef work():\n    global f\n    while True:\n        f = lambda x: 2 * x\n"
        "threading.Thread(target=work, daemon=True).start()",
        "left threads",
    ),
    "thread by ctypes": cheat(
        "import ctypes\nlib = ctypes.CDLL(None)\nt = ctypes.c_ulong()\n"
        "lib.pthread_create(ctypes.byref(t), None, ctypes.cast(lib.pause, ctypes.c_void_p), None)",
        "left threads",
    ),
    "sleeping children": cheat(
        "import os, time\nfor _ in range(3):\n    if os.fork() == 0:\n        time.sleep(1000)", "AssertionError"
    ),
    "daemon by double fork": cheat(
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        os.chdir('/')\n"
        "        time.sleep(1000)\n    os._exit(0)",
        "AssertionError",
    ),
    "zombie children": cheat(
        "import os\nfor _ in range(10):\n    if os.fork() == 0:\n        os._exit(0)", "AssertionError"
    ),
    "child that takes over": cheat(
        "import os\nif os.fork():\n    os.wait()\n    os._exit(0)\ndef f(x):\n    return 2 * x",
        "left early",
        waits=True,
    ),
}

SIGNALS = {
    "kills its parent": harm("os.kill(os.getppid(), 9)"),
    "stops its parent": harm("os.kill(os.getppid(), 19)"),
    "kills all": cheat("import os\nos.kill(-1, 9)"),  # the kernel may say that it worked where it reached nobody
    "kills a process of the host": harm("os.kill(@PID@, 9)"),
    "stops a process of the host": harm("os.kill(@PID@, 19)"),
    "kills a group of the host": harm("os.killpg(@PID@, 9)"),
    "kills by sigqueue": harm(syscall(129, "@PID@", 9, "ctypes.create_string_buffer(128)")),
    "kills by tgkill": harm(syscall(234, "@PID@", "@PID@", 9)),
    "kills by a process descriptor": harm("import signal\nsignal.pidfd_send_signal(os.pidfd_open(@PID@), 9)"),
    "traces its parent": harm(syscall(101, 16, "os.getppid()", 0, 0)),
    "reads its parent's memory": harm(syscall(310, "os.getppid()", "b'x' * 16", 1, "b'x' * 16", 1, 0)),
    "limits its parent": harm("import resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (0, 0))"),
    "limits a process of the host": harm("import resource\nresource.prlimit(@PID@, resource.RLIMIT_CPU, (0, 0))"),
    "slows its user's processes": harm("os.setpriority(os.PRIO_USER, 0, 19)"),
    "pins its parent to one processor": harm("os.sched_setaffinity(os.getppid(), [0])"),
}

LIMITS = {
    "raises its limits": harm("import resource\nresource.setrlimit(resource.RLIMIT_NPROC, (10**6, 10**6))"),
    "raises its memory": harm("import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "becomes root": harm("os.setuid(0)\nassert os.geteuid() != 0 or open('/etc/shadow')", needs="landlock"),
    "takes a namespace": harm(syscall(272, 0x10000000)),
    "takes a namespace by clone": harm(
        syscall(56, 0x10000000 | 17, 0, 0, 0, 0).replace("if libc", "pid = libc").replace(" < 0:", "\nif pid < 0:")
        + "\nif pid == 0:\n    os._exit(0)"
    ),
    "mounts": harm("import ctypes\nassert ctypes.CDLL(None).mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0"),
    "changes its root": harm("os.chroot('.')"),
    "keeps shared memory": harm(syscall(29, 0x45564F, 4096, 0o1666)),
    "keeps a queue": harm(syscall(240, "b'evomerge'", 0o102, 0o666, 0)),
    "keeps a key": harm(syscall(248, "b'user'", "b'evomerge'", "b'x'", 1, -4)),
    "sets up io_uring": harm(syscall(425, 4, "ctypes.create_string_buffer(120)")),
    "loads a program into the kernel": harm(syscall(321, 0, "ctypes.create_string_buffer(120)", 120)),
    "sets the clock": harm("import time\ntime.clock_settime(time.CLOCK_REALTIME, 0)"),
}

NETWORK = {
    "connects by TCP": harm("import socket\nsocket.create_connection(('127.0.0.1', @PORT@), timeout=0.3)"),
    "listens by TCP": harm("import socket\nsocket.create_server(('127.0.0.1', 0))"),
    "sends by UDP": harm(
        "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.sendto(b'x', ('127.0.0.1', @UDP@))"
    ),
    "connects to a socket in the file system": harm("import socket\nsocket.socket(socket.AF_UNIX).connect('@SOCKET@')"),
    "connects to an abstract socket": harm("import socket\nsocket.socket(socket.AF_UNIX).connect('\\0@ABSTRACT@')"),
    "raw socket": harm("import socket\nsocket.socket(socket.AF_INET, socket.SOCK_RAW, 1)"),
    "netlink": harm("import socket\nsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)"),
    "resolves a name": harm("import socket\nsocket.getaddrinfo('localhost', 80)\nsocket.socket()"),
    "socket by an old call": harm(
        "import ctypes, mmap, platform\nassert platform.machine() == 'x86_64'\n"
        "page = mmap.mmap(-1, 4096, prot=7)\n"
        "page.write(bytes.fromhex('53b866010000bb02000000b90200000031d2cd805bc3'))\n"  # int 0x80: socket of 32-bit x86
        "call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))\n"
        "assert call() >= 0"
    ),
}

READING = {
    "reads /etc/passwd": harm("open('/etc/passwd').read()", needs="landlock"),
    "reads a file of the host": harm("open('@HOST@/secret').read()", needs="landlock"),
    "lists a folder of the host": harm("os.listdir('@HOST@')", needs="landlock"),
    "lists a home": harm("os.listdir(os.path.expanduser('~root')) or os.listdir('/home')", needs="landlock"),
    "reads by a symbolic link": harm("os.symlink('@HOST@/secret', 'l')\nopen('l').read()", needs="landlock"),
    "reads by a hard link": harm("os.link('@HOST@/secret', 'l')\nopen('l').read()", needs="landlock"),
    "reads by its root in /proc": harm("open('/proc/self/root@HOST@/secret').read()", needs="landlock"),
    "reads by its parent's root": harm("open(f'/proc/{os.getppid()}/root@HOST@/secret').read()", needs="landlock"),
    "reads by its parent's folder": harm("os.listdir(f'/proc/{os.getppid()}/cwd/etc')", needs="landlock"),
    "reads the environment of the host": harm("open('/proc/@PID@/environ').read()", needs="landlock"),
    "reads its parent's command line": harm("open(f'/proc/{os.getppid()}/cmdline').read()", needs="landlock"),
    "lists processes": harm("assert [p for p in os.listdir('/proc') if p.isdigit()]", needs="landlock"),
    "reads its parent's descriptors": harm("os.listdir(f'/proc/{os.getppid()}/fd')", needs="landlock"),
    "opens its parent's standard output": harm("open(f'/proc/{os.getppid()}/fd/1', 'wb').write(b'x')"),
    "reads the disk": harm(
        "d = os.stat('/').st_dev\nopen(f'/dev/block/{os.major(d)}:{os.minor(d)}', 'rb')\nopen('/dev/vda', 'rb')"
    ),
    "opens by handle": harm(
        "import ctypes\nlibc = ctypes.CDLL(None)\nh = ctypes.create_string_buffer(b'\\x80\\0\\0\\0', 136)\n"
        "m = ctypes.c_int()\nassert libc.name_to_handle_at(-100, b'/', h, ctypes.byref(m), 0) == 0"
    ),
    "executes a program": harm("import subprocess\nsubprocess.run(['/bin/ls'], check=True)", needs="landlock"),
    "executes Python": harm(
        "import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''], check=True)", needs="landlock"
    ),
}

WRITING = {
    "writes a file of the host": harm("open('@HOST@/@MARK@', 'w').write('x')", needs="landlock"),
    "overwrites a file of the host": harm("open('@HOST@/secret', 'w').write('x')", needs="landlock"),
    "truncates a file of the host": harm("os.truncate('@HOST@/secret', 0)", needs="landlock"),
    "deletes a file of the host": harm("os.remove('@HOST@/secret')", needs="landlock"),
    "renames a file of the host": harm("os.rename('@HOST@/secret', '@HOST@/@MARK@')", needs="landlock"),
    "moves a file out": harm("open('x', 'w').close()\nos.rename('x', '@HOST@/@MARK@')", needs="landlock"),
    "links a file out": harm("open('x', 'w').close()\nos.link('x', '@HOST@/@MARK@')", needs="landlock"),
    "makes a folder on the host": harm("os.mkdir('@HOST@/@MARK@')", needs="landlock"),
    "makes a symbolic link on the host": harm("os.symlink('/', '@HOST@/@MARK@')", needs="landlock"),
    "makes a pipe on the host": harm("os.mkfifo('@HOST@/@MARK@')", needs="landlock"),
    "writes through a symbolic link": harm("os.symlink('@HOST@/@MARK@', 'l')\nopen('l', 'w')", needs="landlock"),
    "writes to /tmp": harm("open('/dev/shm/@MARK@', 'w').write('x')\nopen('/var/tmp/@MARK@', 'w')", needs="landlock"),
    "writes to its home": harm("open(os.path.expanduser('~root/@MARK@'), 'w').write('x')"),
    "writes to Python's library": harm("open(os.path.dirname(os.__file__) + '/@MARK@.py', 'w').write('x')"),
    "changes the mode of a file of the host": harm("os.chmod('@HOST@/secret', 0)"),
    "changes the mode of a folder of the host": harm("os.chmod('@HOST@', 0)"),
    "changes the times of a file of the host": harm("os.utime('@HOST@/secret', (1, 1))", needs="landlock"),
    "changes attributes of a file of the host": harm("os.setxattr('@HOST@/secret', 'user.x', b'x')", needs="landlock"),
    "changes a setting of the kernel": harm("open('/proc/sys/kernel/core_pattern', 'w').write('x')"),
    "makes a device": harm("import stat\nos.mknod('d', 0o666 | stat.S_IFBLK, os.stat('/').st_dev)"),
    "leaves a program with its owner's rights": harm(
        "open('s', 'w').close()\nos.chmod('s', 0o4777)\nassert os.stat('s').st_uid == 0"
    ),
}

SCRATCH = {
    "locks its folder": cheat("import os\nos.chmod('.', 0)"),
    "locks folders in its folder": cheat(
        "import os\nos.makedirs('a/b/c')\nopen('a/b/x', 'w').write('x')\nos.mkdir('d', 0)\n"
        "try:\n    os.chmod('a/b', 0)\n    os.chmod('a', 0)\nexcept OSError: pass",
        "AssertionError",
    ),
    "removes its folder": cheat("import os\nos.rmdir(os.getcwd())"),
    "renames its folder": cheat("import os\nos.rename(os.getcwd(), os.getcwd() + 'x')"),
    "replaces its folder by a link": cheat("import os\nd = os.getcwd()\nos.rmdir(d)\nos.symlink('@HOST@', d)"),
    "links the host into its folder": cheat(
        "import os\nos.symlink('@HOST@', 'a')\nos.symlink('@HOST@/secret', 'b')\nos.symlink('c', 'c')", "AssertionError"
    ),
    "odd names": cheat(
        "import os\nfor n in (b'\\n', b'\\xff', b'-rf', b' ', b'x' * 255, b'*'):\n    os.mkdir(n)", "AssertionError"
    ),
    "long paths": cheat("import os\nfor _ in range(100):\n    os.mkdir('x' * 200)\n    os.chdir('x' * 200)"),
    "leaves a file for the next": cheat(
        "for place in ('x', '../x'):\n    try:\n        open(place, 'w').write('x')\n    except OSError:\n        pass",
        "AssertionError",
    ),
}

SOURCES = {
    "no program": Evil("this is no Python", reasons=frozenset({"SyntaxError"})),
    "null byte": Evil("x = 1\0", reasons=frozenset({"SyntaxError", "ValueError"})),
    "surrogates": Evil("x = '\ud800'", reasons=frozenset({"UnicodeEncodeError", "SyntaxError"})),
    "huge source": Evil("x = 1\n" * 10**6, reasons=frozenset({"too long"})),
    "huge line": cheat("x = [" + "1," * 100_000 + "]", "AssertionError", "MemoryError", "timeout"),
    "deep brackets": Evil("(" * 10**5 + ")" * 10**5, reasons=frozenset({"SyntaxError", "MemoryError"})),
    "deep operators": Evil(
        "x = " + "-" * 10**5 + "1", reasons=frozenset({"SyntaxError", "MemoryError", "RecursionError"})
    ),
    "open string": cheat('x = """', "SyntaxError"),
    "swallows its tests": cheat("if False:", "IndentationError"),
    "huge number": Evil("x = int('9' * 10**6)", reasons=frozenset({"ValueError"})),
    "empty": Evil("", reasons=frozenset({"NameError"})),
}

#: What depends on the level; cheats do not.
HARMS = {**SIGNALS, **LIMITS, **NETWORK, **READING, **WRITING, **SCRATCH}
EVIL = {**LOOPS, **BOMBS, **OUTPUT, **LEAVING, **BENT, **PROOF, **OUTLIVING, **SOURCES, **HARMS}
