import ast
import re
from pathlib import Path

import pytest

from evomerge.evaluation.counter import turned_round
from evomerge.evaluation.jail import seccomp

STRANGER = re.compile(r"\('[0-9a-f]{16}',\)")


@pytest.mark.parametrize(
    ("tests", "turned"),
    [
        ("assert f(1) == 2", "assert not f(1) == 2 or f(1) == STRANGER"),
        ("assert f(1) == 2, 'no'", "assert not f(1) == 2 or f(1) == STRANGER, 'no'"),
        ("assert abs(f(1) - 2.5) < 1e-06", "assert not abs(f(1) - 2.5) < 1e-06"),
        ("assert not f(1)", "assert not (not f(1))"),
        ("assert f(1) == 2 == x", "assert not f(1) == 2 == x"),
        ("x = f(1)\nassert x == 2\nassert f(2)", "x = f(1)\nassert x == 2\nassert not f(2)"),
        (
            "def check(c):\n    assert c(1)\n    if x:\n        assert c(2)\ncheck(f)",
            "def check(c):\n    assert not c(1)\n    if x:\n        assert not c(2)\ncheck(f)",
        ),
        ("for x in [1, 2]:\n    assert f(x)", "for x in [1, 2]:\n    assert not f(x)"),
        (
            "try:\n    assert f(1)\nexcept E:\n    pass\nassert f(2)",
            "try:\n    assert f(1)\nexcept E:\n    pass\nassert not f(2)",
        ),
    ],
)
def test_asserts_are_turned_round(tests, turned):
    result = turned_round(tests)
    assert result is not None
    assert ast.unparse(ast.parse(STRANGER.sub("STRANGER", result))) == ast.unparse(ast.parse(turned))


@pytest.mark.parametrize(
    "tests",
    [
        "",
        "f(1)",
        "assert x == 2",
        "this is no test",
        "x = '\0'",
        "(" * 10**4,
        "if x:\n    assert f(1)",
        "for x in y:\n    assert f(x)",
        "for x in [1]:\n    if f(x): continue\n    assert f(x)",
        "def check(c):\n    assert c(1)",
        "def check(c):\n    if c(0): return\n    assert c(1)\ncheck(f)",
        "def check(c):\n    assert c(1)\n    yield\ncheck(f)",
        "@skip\ndef check(c):\n    assert c(1)\ncheck(f)",
        "async def check():\n    assert f(1)\ncheck()",
        "try:\n    assert f(1)\nexcept E:\n    pass",
        "with raises(E):\n    assert f(1)",
    ],
)
def test_no_counter_check_where_no_assert_is_sure_to_be_executed(tests):
    assert turned_round(tests) is None


def test_numbers_of_system_calls_are_the_kernel_s():
    headers = [Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), Path("/usr/include/asm-generic/unistd.h")]
    if not all(header.exists() for header in headers):
        pytest.skip("no kernel headers here")
    pattern = re.compile(r"#define __NR(?:3264)?_(\w+)\s+(\d+)")
    kernel = [{name: int(number) for name, number in pattern.findall(header.read_text())} for header in headers]
    single = {name.lower(): getattr(seccomp, name) for name in ("KILL", "TGKILL", "FCNTL", "CLONE", "CLONE3")}
    single |= {
        "rt_sigqueueinfo": seccomp.SIGQUEUE,
        "rt_tgsigqueueinfo": seccomp.TGSIGQUEUE,
        "prlimit64": seccomp.PRLIMIT,
    }
    known = 0
    for name, numbers in (seccomp.REFUSED | seccomp.CHANGES_OF_FILES | seccomp.SIGNALS | single).items():
        for number, table in zip(numbers, kernel, strict=True):
            if name in table:
                known += 1
                assert number == table[name], name
    assert known > 100
