import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evomerge.errors import WorkError
from evomerge.evaluation.sandbox import LEVELS, Program, Sandbox
from tests.evaluation.evil import EVIL, HARMS, Evil

HONEST = Program("def add(a, b):\n    return a + b", "assert add(2, 3) == 5\nassert add(-1, 1) == 0")
TIMEOUT = 0.7


@dataclass
class Host:
    """What programs may try to harm."""

    folder: Path
    victim: subprocess.Popen
    words: dict[str, str]

    def program(self, evil: Evil) -> Program:
        code = evil.code
        for word, value in self.words.items():
            code = code.replace(f"@{word}@", value)
        return Program(code, evil.tests)

    def state(self) -> object:
        """Everything that no program may change."""
        secret, mark = self.folder / "secret", self.words["MARK"]
        places = ["/dev/shm", "/var/tmp", "/tmp", str(Path.home()), os.path.dirname(os.__file__), str(self.folder)]
        stat = Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()
        return (
            sorted(os.listdir(self.folder)),
            secret.read_text(),
            [(s.st_mode, s.st_mtime, s.st_uid) for s in (secret.stat(), self.folder.stat())],
            os.listxattr(secret),
            [place for place in places for end in ("", ".py") if os.path.lexists(f"{place}/{mark}{end}")],
            self.victim.poll(),
            stat[0] == "T",
            stat[15:17],
            os.sched_getaffinity(self.victim.pid),
            Path("/proc/sysvipc/shm").read_text().count("\n") if os.path.exists("/proc/sysvipc/shm") else 0,
        )


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[Host]:
    folder = (
        Path("/var/tmp") / f"evomerge-host-{os.getpid()}"
    )  # not below pytest's own folders: others cannot enter them
    folder.mkdir()
    folder.chmod(0o777)
    (folder / "secret").write_text("the secret")
    (folder / "secret").chmod(0o666)
    victim = subprocess.Popen(["sleep", "1000"], start_new_session=True)
    abstract = f"evomerge-{os.getpid()}"
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
        socket.socket(socket.AF_UNIX) as hidden,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o777)
        unix.listen()
        hidden.bind("\0" + abstract)
        hidden.listen()
        words = {
            "HOST": str(folder),
            "PID": str(victim.pid),
            "PORT": str(tcp.getsockname()[1]),
            "UDP": str(udp.getsockname()[1]),
            "SOCKET": str(folder / "socket"),
            "ABSTRACT": abstract,
            "MARK": f"evomerge-mark-{os.getpid()}",
        }
        yield Host(folder, victim, words)
    victim.kill()
    victim.wait()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def sandboxes() -> Iterator[dict[str, Sandbox]]:
    started: dict[str, Sandbox] = {}
    yield started
    for sandbox in started.values():
        sandbox.close()


def at_level(sandboxes: dict[str, Sandbox], level: str) -> Sandbox:
    """The sandbox at just this level."""
    if level not in sandboxes:
        try:
            sandboxes[level] = Sandbox(timeout=TIMEOUT, workers=1, require=level, highest=level)
        except WorkError as error:
            pytest.skip(str(error))
    return sandboxes[level]


def table() -> list:
    rows = []
    for level in LEVELS:
        for name, evil in EVIL.items():
            if evil.needs is None or LEVELS.index(level) <= LEVELS.index(evil.needs):
                slow = level != "landlock" and (evil.waits or name not in HARMS)
                rows.append(pytest.param(level, name, marks=[pytest.mark.slow] if slow else [], id=f"{level}: {name}"))
    return rows


@pytest.mark.parametrize(("level", "name"), table())
def test_evil_programs_fail_and_do_no_harm(sandboxes, host, level, name):
    sandbox = at_level(sandboxes, level)
    evil = EVIL[name]
    before, processes = host.state(), strangers(sandbox)
    verdict, after = sandbox.run([host.program(evil), HONEST])
    assert not verdict.passed, verdict
    if evil.reasons:
        assert verdict.reason in evil.reasons
    assert after.reason == "passed"
    assert host.state() == before
    assert strangers(sandbox) == processes


def strangers(sandbox: Sandbox) -> set[int]:
    """The processes of the sandbox's programs and its helper's own: the same whenever no program runs."""
    helper = sandbox._helpers[0]
    user, found = int(helper._arguments[1]), {helper._process.pid}
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == user:
                found.add(int(path.name))
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    size = 0
    while len(found) > size:
        size = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def test_there_are_at_least_forty():
    assert len(EVIL) >= 40


def test_the_pool_keeps_its_pace(host):
    """Quick evil programs between honest ones slow the honest ones down by little."""
    quick = [host.program(evil) for evil in EVIL.values() if not evil.waits][:60]
    with Sandbox(timeout=TIMEOUT, workers=2) as sandbox:
        sandbox.run([HONEST] * 10)
        start = time.monotonic()
        assert all(sandbox.run([HONEST] * 60))
        alone = time.monotonic() - start
        mixed = [program for pair in zip([HONEST] * len(quick), quick, strict=True) for program in pair]
        start = time.monotonic()
        verdicts = sandbox.run(mixed)
        together = time.monotonic() - start
    assert all(verdicts[::2])
    assert not any(verdicts[1::2])
    assert together < 10 * alone + 5
