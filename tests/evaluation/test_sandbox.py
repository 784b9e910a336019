import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

import evomerge
from evomerge.errors import UsageError, WorkError
from evomerge.evaluation.counter import turned_round
from evomerge.evaluation.sandbox import LEVELS, Program, Sandbox

HONEST = Program("def add(a, b):\n    return a + b", "assert add(2, 3) == 5\nassert add(-1, 1) == 0")


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(timeout=1.0, workers=1) as sandbox:
        yield sandbox


def run(sandbox: Sandbox, code: str, tests: str = "") -> str:
    """The reason of the verdict on one program."""
    (verdict,) = sandbox.run([Program(code, tests)])
    assert verdict.passed == (verdict.reason == "passed")
    return verdict.reason


def test_honest_programs_pass_quickly(sandbox):
    sandbox.run([HONEST])
    start = time.monotonic()
    verdicts = sandbox.run([HONEST] * 100)
    assert all(verdicts)
    assert time.monotonic() - start < 5  # 0.2 s on an idle machine


def test_verdicts_are_in_order():
    with Sandbox(workers=3) as sandbox:
        verdicts = sandbox.run([Program(f"x = {i}", "assert x % 3") for i in range(40)])
        assert [bool(verdict) for verdict in verdicts] == [i % 3 != 0 for i in range(40)]
        assert sandbox.run([]) == []


@pytest.mark.parametrize(
    "program",
    [
        "import os\nassert not os.environ",
        "import os\nassert os.listdir() == []",
        "import tempfile\nwith tempfile.TemporaryFile() as f:\n    f.write(b'x')",
        "print('x' * 10**6)",
        "import threading\nt = threading.Thread(target=print)\nt.start()\nt.join()",
        "import concurrent.futures as c\nwith c.ThreadPoolExecutor(4) as p:\n    assert list(p.map(abs, [-1])) == [1]",
        "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    return 3\nassert asyncio.run(f()) == 3",
        "import os\nif os.fork() == 0:\n    os._exit(0)\nos.wait()",
        "import sys\nassert not [m for m in sys.modules if m.startswith(('torch', 'evomerge', 'jail'))]",
        "s = '\\u2028'\nassert len(s) == 1",
        "import cmath, array, json, collections.abc, unittest.mock, decimal, sqlite3, hashlib, zoneinfo",
        "import os, shutil\nos.makedirs('a/b')\nopen('a/b/c', 'w').write('x')\nos.rename('a/b/c', 'd')\n"
        "shutil.rmtree('a')",
        "assert __name__ == 'builtins'",  # as where lm-eval executes code
        "import __main__",
        "from __future__ import annotations\ndef f(x: nothing): pass",
        "import sys\nsys.setrecursionlimit(5000)\ndef f(n):\n    return n and f(n - 1)\nf(4000)",
        "import signal\nsignal.alarm(100)",
        "import gc\ngc.collect()",
    ],
)
def test_what_programs_may(sandbox, program):
    assert run(sandbox, program) == "passed"


@pytest.mark.parametrize(
    ("code", "tests", "reason"),
    [
        ("f = abs", "assert f(-1) == 1\nassert f(-2) == 2", "passed"),
        ("f = abs", "assert f(-1) == 2", "AssertionError"),
        ("f = abs", "assert f(-1) == 1, f(-1)", "passed"),
        ("f = lambda x: x / 3", "assert abs(f(1) - 0.333333) < 1e-5", "passed"),
        ("f = lambda x: float('nan')", "import math\nassert math.isnan(f(1))", "passed"),
        ("f = lambda x: x", "assert f(1) != 2\nassert not f(0)\nassert f(3) in (3, 4)", "passed"),
        ("f = int", "try:\n    f('x')\n    assert False\nexcept ValueError:\n    pass", "passed"),
        ("f = int", "try:\n    assert f('x')\nexcept ValueError:\n    pass\nassert f('3') == 3", "passed"),
        ("f = int", "try:\n    assert f('3')\nexcept ValueError:\n    pass", "passed"),
        ("f = int", "f('3')", "passed"),
        ("x = 3", "assert x == 3", "passed"),
        ("x = 3", "assert x == 4", "AssertionError"),
        ("f = abs", "def check(c):\n    assert c(-1) == 1\n    assert c(2) == 2\ncheck(f)", "passed"),
        ("f = abs", "def check(c):\n    assert c(-1) == 2\ncheck(f)", "AssertionError"),
        ("f = abs", "def check(c):\n    assert c(-1) == 1", "passed"),
        ("f = abs", "for x, y in [(1, 1), (-1, 1)]:\n    assert f(x) == y", "passed"),
        ("f = abs", "for x in []:\n    assert f(x) == 1", "passed"),
        ("f = abs", "if f(1) == 2:\n    assert f(1) == 3", "passed"),
        ("import random\nf = random.random", "assert f() != f()", "passed"),
        ("from __future__ import annotations", "def g(x: nothing): pass", "passed"),
        ("x = []\ndef f(y):\n    x.append(y)\n    return len(x)", "assert f(1) == 1\nassert f(1) == 2", "passed"),
        ("f = abs", "this is no test", "SyntaxError"),
        ("f = abs", "assert f(-1) == 1\nexit_now", "NameError"),
        ("assert False", "", "AssertionError"),
        ("", "", "passed"),
        ("import builtins\nbuiltins.extra = 3", "assert extra + abs(0) == 3", "passed"),
    ],
)
def test_verdicts_of_honest_programs(sandbox, code, tests, reason):
    assert run(sandbox, code, tests) == reason


def test_tests_are_not_there_before_the_code_has_ended(sandbox):
    code = "import gc, sys\nfr = sys._getframe()\nseen = ''\nwhile fr:\n    seen += repr((fr.f_locals, fr.f_globals))\n"
    code += "    fr = fr.f_back\nseen += repr([o for o in gc.get_objects() if type(o) in (list, tuple, dict)])"
    assert (
        run(sandbox, code, "assert 'needle' not in seen.replace('need' + 'le in a haystack', '')\n# needle") == "passed"
    )


def test_scores_do_not_hang_on_hash_seeds_or_chance():
    order = "list({str(i) for i in range(50)})[:3]"
    command = [sys.executable, "-c", f"import random; random.seed(0); print({order}, random.random())"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    shown, _, number = said.strip().rpartition(" ")
    program = Program(
        f"import random\norder, number = {order}, random.random()", f"assert (order, number) == ({shown}, {number})"
    )
    for _ in range(2):
        with Sandbox(workers=1) as sandbox:
            assert all(sandbox.run([program] * 2))


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
    assert run(sandbox, program) == "passed"  # they are killed between the stages
    assert children_of(os.getpid()) == before


def test_every_program_gets_an_empty_folder(sandbox):
    mess = "import os\nos.makedirs('a/b/c')\nopen('a/b/x', 'w').write('x')\nos.mkdir('d', 0)\nopen('../y', 'w')"
    run(sandbox, mess)
    assert run(sandbox, "import os\nassert os.listdir() == []\nassert not os.path.exists('../y')") == "passed"


def test_levels_are_tried_in_order_and_reported(sandbox):
    assert sandbox.level in LEVELS[: LEVELS.index("landlock") + 1]
    assert sandbox.describe().startswith(f"level {sandbox.level}: ")
    for level in LEVELS[: LEVELS.index(sandbox.level)]:
        assert f"; not {level}: " in sandbox.describe()
    with Sandbox(workers=1, require="rlimits", highest="rlimits") as low:
        assert low.level == "rlimits"
        assert "reading as their user" in low.describe()


def test_it_fails_closed_below_the_required_level(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(WorkError, match=r"does not reach level 'bwrap' here \(bwrap: bubblewrap is not installed\)"):
        Sandbox(require="bwrap")
    with pytest.raises(UsageError, match="did you mean 'landlock'"):
        Sandbox(require="landlok")


def test_the_shared_sandbox():
    script = (
        "import os\nfrom evomerge.evaluation import sandbox\n"
        "sandbox.configure(require='rlimits')\nsandbox.start()\nshared = sandbox.shared_sandbox()\n"
        "assert shared is sandbox.shared_sandbox()\n"
        "print([bool(v) for v in shared.run([sandbox.Program('x = 1', 'assert x == 1')])])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[True]\n", done.stderr


def test_helper_that_dies_is_replaced(sandbox):
    sandbox._helpers[0]._process.kill()
    assert all(sandbox.run([HONEST, HONEST]))


@pytest.mark.parametrize("level", LEVELS)
def test_killed_helpers_cost_no_program(level):
    """Helpers are killed all through a batch; every verdict is as if they had not been."""
    try:
        sandbox = Sandbox(timeout=5, workers=2, require=level, highest=level)
    except WorkError as error:
        pytest.skip(str(error))
    slow = Program("import time\ntime.sleep(0.03)\nf = abs", "assert f(-1) == 1")
    wrong = Program("f = abs", "assert f(-1) == 2")
    stop = threading.Event()
    killed = 0

    def kill() -> None:
        nonlocal killed
        while not stop.wait(0.4):
            sandbox._helpers[killed % 2]._process.kill()
            killed += 1

    killer = threading.Thread(target=kill)
    with sandbox:
        killer.start()
        try:
            verdicts = sandbox.run([slow, wrong] * 20)
        finally:
            stop.set()
            killer.join()
    assert killed >= 2
    assert [verdict.reason for verdict in verdicts] == ["passed", "AssertionError"] * 20


def test_where_every_helper_is_killed_it_says_so():
    """No program is counted wrong for it, and afterwards all is well."""
    stop = threading.Event()
    with Sandbox(workers=1, require="rlimits", highest="landlock") as sandbox:

        def kill() -> None:
            while not stop.wait(0.001):
                sandbox._helpers[0]._process.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(WorkError, match="sandbox"):
                sandbox.run([HONEST] * 50)
        finally:
            stop.set()
            killer.join()
        assert all(sandbox.run([HONEST, HONEST]))


def test_as_a_user_without_rights(tmp_path):
    """Where the tests run as root: the levels again as nobody, who has no other user to give to programs."""
    python = next((path for path in ("/usr/bin/python3", "/usr/local/bin/python3") if os.path.exists(path)), None)
    if os.geteuid() != 0 or python is None:
        pytest.skip("needs root and a Python that nobody may use")
    library = tmp_path / "library"
    shutil.copytree(Path(evomerge.__file__).parent / "evaluation" / "jail", library / "evomerge/evaluation/jail")
    for name in (
        "__init__.py",
        "errors.py",
        "evaluation/__init__.py",
        "evaluation/sandbox.py",
        "evaluation/counter.py",
    ):
        shutil.copy(Path(evomerge.__file__).parent / name, library / "evomerge" / name)
    script = library / "run.py"
    script.write_text(
        "import os, sys\nsys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))\n"
        "from evomerge.evaluation.sandbox import Program, Sandbox\n"
        "evil = ['import os\\nos.kill(int(%d), 9)' % os.getpid(), 'import os\\nos.kill(-1, 9)\\nassert False',\n"
        "        'import os\\nos.chmod(%r, 0)' % os.environ['MINE'],\n"
        "        'import os, time\\nif os.fork() == 0:\\n    os.setsid()\\n    time.sleep(1000)\\nraise KeyError',\n"
        "        'import os\\nfor _ in range(300):\\n    os.fork()', 'import socket\\nsocket.socket()']\n"
        f"for level in {LEVELS!r}:\n"
        "    with Sandbox(timeout=2, workers=1, require='rlimits', highest=level) as sandbox:\n"
        "        verdicts = sandbox.run([Program(code, '') for code in evil])\n"
        "        (honest,) = sandbox.run([Program('f = abs', 'assert f(-1) == 1')])\n"
        "        print(sandbox.level, any(verdicts), honest.reason, flush=True)\n"
    )
    mine = tmp_path / "mine"
    mine.write_text("")
    nobody = 65534
    os.chown(mine, nobody, nobody)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        if folder.stat().st_mode & 0o5 != 0o5 and folder != Path("/"):
            folder.chmod(0o755)
    done = subprocess.run(
        [python, str(script)],
        env={"MINE": str(mine), "PATH": os.environ["PATH"]},
        cwd="/",
        user=nobody,
        group=nobody,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=120,
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(LEVELS), done.stderr
    assert {tuple(line[1:]) for line in lines} == {("False", "passed")}, done.stdout
    assert lines[-1][0] == "rlimits"
    assert mine.stat().st_mode & 0o777


def mbpp() -> list[Program]:
    data = os.environ.get("EVOMERGE_DATA")
    if data is None:
        pytest.skip("EVOMERGE_DATA does not point to a folder with mbpp/")
    items = [json.loads(line) for line in (Path(data) / "mbpp" / "mbpp.jsonl").read_text().splitlines()]
    return [Program(item["code"], "\n".join([item["test_setup_code"], *item["test_list"]])) for item in items]


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_all_reference_solutions_of_mbpp_pass(level):
    programs = mbpp()
    assert len(programs) == 974
    try:
        sandbox = Sandbox(timeout=10, workers=2, require=level, highest=level)
    except WorkError as error:
        pytest.skip(str(error))
    with sandbox:
        verdicts = sandbox.run(programs)
    assert {place: verdict.reason for place, verdict in enumerate(verdicts) if not verdict} == {}
    assert sum(turned_round(program.tests) is not None for program in programs) > 950  # nearly all are counter-checked


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
