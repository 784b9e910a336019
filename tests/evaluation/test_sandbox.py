import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from evomerge.evaluation.sandbox import Sandbox

HONEST = "def add(a, b):\n    return a + b\nassert add(2, 3) == 5\nassert add(-1, 1) == 0"

#: name -> (program, words of which its reason may be one; none: any)
EVIL = {
    "wrong answer": ("def f():\n    return 1\nassert f() == 2", {"AssertionError"}),
    "no program": ("this is no Python", {"SyntaxError"}),
    "null byte": ("x = 1\0", {"SyntaxError", "ValueError"}),
    "infinite loop": ("while True:\n    pass", {"timeout"}),
    "endless sleep": ("import time\ntime.sleep(1000)", {"timeout"}),
    "loop that ignores signals": (
        "import signal\nfor s in range(1, 65):\n    try:\n        signal.signal(s, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nwhile True:\n    pass",
        {"timeout", "SIGKILL"},
    ),
    "leaves by os._exit": ("import os\nos._exit(0)", {"left early"}),
    "leaves by sys.exit": ("import sys\nsys.exit(0)", {"SystemExit"}),
    "leaves by exec": ("import os\nos.execv('/bin/true', ['true'])", set()),
    "guesses the report": (
        "import os\nfor f in range(3, 64):\n    try:\n        os.write(f, b'passed ')\n"
        "    except OSError:\n        pass\nos._exit(0)",
        {"left early"},
    ),
    "forks and lets the child report": ("import os\nif os.fork():\n    os._exit(0)", {"left early"}),
    "memory bomb": ("x = [0] * 10**10", {"MemoryError"}),
    "fork bomb": ("import os\nwhile True:\n    os.fork()", {"BlockingIOError", "timeout", "SIGKILL", "OSError"}),
    "thread bomb": (
        "import threading, time\nfor _ in range(10000):\n    threading.Thread(target=time.sleep, args=(100,)).start()",
        {"RuntimeError", "timeout", "MemoryError"},
    ),
    "giant file": ("with open('x', 'wb') as f:\n    f.write(bytes(10**8))\n    f.flush()", {"OSError", "SIGXFSZ"}),
    "many files": ("fs = [open(str(i), 'w') for i in range(10000)]", {"OSError"}),
    "deep recursion": ("def f():\n    return f()\nf()", {"RecursionError"}),
    "stack overflow": (
        "import sys\nsys.setrecursionlimit(10**9)\ndef f(x):\n    return [f(x + 1)]\nexec('f(0)' )",
        {"SIGSEGV", "MemoryError", "RecursionError", "SIGABRT", "timeout"},
    ),
    "reads standard input": ("input()", {"EOFError"}),
    "other AssertionError": (
        "import builtins\nbuiltins.AssertionError = KeyError\nassert False",
        {"AssertionError", "KeyError"},
    ),
    "error with an odd name": ("raise type('passed', (Exception,), {})", set()),
    "kills its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nassert False", set()),
    "stops its parent": ("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\nassert False", set()),
    "kills all": ("import os, signal\nos.kill(-1, signal.SIGKILL)\nassert False", set()),
}


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(timeout=1.0, workers=1) as sandbox:
        yield sandbox


def needs_namespaces(sandbox: Sandbox) -> None:
    if sandbox.level != "namespaces":
        pytest.skip("the kernel refuses namespaces here")


@pytest.mark.parametrize("name", EVIL)
def test_evil_programs_fail_and_do_no_harm(sandbox, name):
    program, reasons = EVIL[name]
    if name == "kills all":
        needs_namespaces(sandbox)  # without them it would kill the tests
    verdict, after = sandbox.run([program, HONEST])
    assert not verdict.passed
    if reasons:
        assert verdict.reason in reasons
    assert after.passed
    assert after.reason == "passed"


def test_honest_programs_pass_quickly(sandbox):
    sandbox.run([HONEST])
    start = time.monotonic()
    verdicts = sandbox.run([HONEST] * 100)
    assert all(verdicts)
    assert time.monotonic() - start < 5  # 0.2 s on an idle machine


def test_verdicts_are_in_order():
    with Sandbox(workers=3) as sandbox:
        verdicts = sandbox.run([f"assert {i} % 3" for i in range(40)])
        assert [bool(verdict) for verdict in verdicts] == [i % 3 != 0 for i in range(40)]
        assert sandbox.run([]) == []


@pytest.mark.parametrize(
    "program",
    [
        "import os\nassert not os.environ",
        "import os\nassert os.listdir() == []",
        "import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')",
        "print('x' * 10**7)",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(100,)).start()",
        "import sys\nassert not [m for m in sys.modules if m.startswith(('torch', 'evomerge'))]",
        "s = '\\u2028'\nassert len(s) == 1",
        "import cmath, array, json, collections.abc, unittest.mock",
        "assert __name__ == 'builtins'",  # as where lm-eval executes code
    ],
)
def test_what_programs_may(sandbox, program):
    (verdict,) = sandbox.run([program])
    assert verdict.reason == "passed"


def test_scores_do_not_hang_on_hash_seeds():
    program = "assert list({str(i) for i in range(50)})[:3] == %r"
    reported = "assert False, list({str(i) for i in range(50)})"
    order = subprocess.run(
        [sys.executable, "-c", "print(list({str(i) for i in range(50)})[:3])"],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for _ in range(2):
        with Sandbox(workers=1) as sandbox:
            assert [v.passed for v in sandbox.run([program % eval(order), reported])] == [True, False]


def test_no_network(sandbox):
    needs_namespaces(sandbox)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (verdict,) = sandbox.run([f"import socket\nsocket.create_connection(('127.0.0.1', {port}), timeout=0.5)"])
    assert verdict.reason in {"OSError", "ConnectionRefusedError", "PermissionError"}


def test_no_writing_outside(sandbox, tmp_path):
    needs_namespaces(sandbox)
    tmp_path.chmod(0o777)
    for target in (tmp_path / "x", Path.home() / ".evomerge-test", Path("/dev/shm/evomerge-test")):
        (verdict,) = sandbox.run([f"open({str(target)!r}, 'w').write('x')"])
        assert not verdict
        assert not target.exists()


def test_no_descendant_is_left(sandbox):
    before = children_of(os.getpid())
    program = textwrap.dedent("""
        import os, time
        for _ in range(3):
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    time.sleep(1000)
                time.sleep(1000)
    """)
    sandbox.run([program])
    assert children_of(os.getpid()) == before


def test_every_program_gets_an_empty_folder(sandbox):
    mess = "import os\nos.makedirs('a/b/c')\nopen('a/b/x', 'w').write('x')\nos.chmod('a/b', 0)\nos.chmod('a', 0)"
    assert all(sandbox.run([mess, "import os\nassert os.listdir() == []"]))


def test_nothing_of_a_program_is_left_for_the_next(sandbox):
    leave = "for place in ('x', '../x', '/tmp/x', '/var/tmp/x'):\n    try:\n        open(place, 'w').write('x')\n"
    leave += "    except OSError:\n        pass"
    look = "import os\nassert not any(map(os.path.exists, ('x', '../x')))"
    assert all(sandbox.run([leave, look]))
    if sandbox.level == "namespaces":
        assert not Path("/tmp/x").exists()


def test_helper_that_dies_is_replaced(sandbox):
    os.kill(sandbox._helpers[0]._process.pid, signal.SIGKILL)
    assert all(sandbox.run([HONEST, HONEST]))


def test_without_namespaces_limits_still_hold(tmp_path):
    """Inside a user namespace whose own limits forbid further ones, the sandbox says so and still stops programs."""
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    script = tmp_path / "run.py"
    script.write_text(
        "from evomerge.evaluation.sandbox import Sandbox\n"
        f"honest = {HONEST!r}\n"
        "with Sandbox(timeout=1.0, workers=1) as sandbox:\n"
        "    print(sandbox.level)\n"
        "    fork = 'import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    time.sleep(1000)'\n"
        "    kill = 'import os\\nos.kill(os.getppid(), 9)'\n"
        "    programs = ['while True: pass', 'import os; os._exit(0)', fork, kill, honest]\n"
        "    for verdict in sandbox.run(programs): print(verdict.passed, verdict.reason)\n"
    )
    before = set(Path(tempfile.gettempdir()).glob("evomerge-sandbox-*"))
    forbid = 'for n in net pid user; do echo 0 > /proc/sys/user/max_${n}_namespaces || exit 77; done; exec "$@"'
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    if "Operation not permitted" in done.stderr or done.returncode == 77:
        pytest.skip("the kernel refuses a user namespace for this test")
    assert done.returncode == 0, done.stderr
    assert set(Path(tempfile.gettempdir()).glob("evomerge-sandbox-*")) == before
    lines = done.stdout.split("\n")
    assert lines[:4] == ["limits", "False timeout", "False left early", "True passed"]
    assert lines[4] == "False killed its helper"
    assert lines[5] == "True passed"


def children_of(pid: int) -> set[int]:
    """All processes below `pid`."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = {pid}
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}
