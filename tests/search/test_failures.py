"""What becomes of a search when something around it fails: real processes, memory groups, disks and clocks.

Each ends as a search that nobody disturbed: every model asked for once and told once on each split, the same proposals
and scores; and nothing of it is left behind. `docs/failures.md` is the table of what is seen here.
"""

import json
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import time
import uuid
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import psutil
import pytest

from evomerge.optimizers.base import Failure
from evomerge.search.workers.base import Scored
from evomerge.search.workers.spawned import SpawnedPool
from tests.search.runs import command, environment, ledger, search_arguments
from tests.search.workers.scorers import Trouble, job

pytestmark = pytest.mark.slow

OVERRIDES = ("workers=spawned", "workers.patience=6", "optimizer=cmaes", "budget.candidates=6", "seed=7")
SAFE = "what was recorded is safe, the same command goes on from there\n"

root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount file systems and make memory groups")


class Running:
    """A search in a process of its own."""

    def __init__(self, run, *overrides, **variables):
        self.run, self.token = run, uuid.uuid4().hex
        self.process = subprocess.Popen(
            command(*search_arguments(run, *OVERRIDES, *overrides)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment(), "EVOMERGE_TEST": self.token, **variables},
            text=True,
        )

    def tells(self):
        """How many models were told of, on whatever split."""
        path = self.run / "ledger.jsonl"
        return path.read_bytes().count(b'{"event":"tell"') if path.exists() else 0

    def wait_for(self, *, tells):
        """Wait until so many models were told of."""
        end = time.monotonic() + 200
        while self.tells() < tells:
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)

    @property
    def worker(self):
        """The process of its worker."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for child in psutil.Process(self.process.pid).children():
                if "evomerge.search.workers.process" in " ".join(child.cmdline()):
                    return child
        raise AssertionError("no worker")

    def family(self):
        """All processes that it has begun, and those that they have."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get("EVOMERGE_TEST") == self.token and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                pass
        return found

    def end(self, timeout=240):
        """Wait for its end; returns exit status, output and errors. Nobody may be left a few seconds later."""
        out, err = self.process.communicate(timeout=timeout)
        self.leaves_nobody()
        return self.process.returncode, out, err

    def kill(self):
        self.process.kill()
        self.process.communicate()
        self.leaves_nobody()

    def leaves_nobody(self):
        end = time.monotonic() + 5
        while left := self.family():
            assert time.monotonic() < end, [process.cmdline() for process in left]
            time.sleep(0.1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "undisturbed"
    status, _, err = Running(run).end()
    assert status == 0, err
    return run


def finish(run, *overrides):
    """Let the same command run to its end."""
    status, out, err = Running(run, *overrides).end()
    assert status == 0, err
    return out


def history(run):
    """What was asked, told and failed, in order, without what depends on the memory that is free; each once."""
    events = [event for event in ledger(run) if event["event"] != "begin"]
    asked = [event["number"] for event in events if event["event"] == "ask"]
    ended = [(event["number"], event.get("split", "search")) for event in events if event["event"] in ("tell", "fail")]
    assert len(set(asked)) == len(asked)
    assert len(set(ended)) == len(ended)
    return events


def assert_equal(run, undisturbed):
    assert history(run) == history(undisturbed)
    assert (run / "front.json").read_bytes() == (undisturbed / "front.json").read_bytes()
    assert json.loads((run / "status.json").read_text())["state"] == "finished"


# ---- processes -------------------------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_stopped_or_hangs(undisturbed, tmp_path):
    nap = tmp_path / "nap"  # at SIGUSR1 a worker's main thread sleeps; its signs of life go on
    nap.mkdir()
    (nap / "sitecustomize.py").write_text(
        "import signal, time\nsignal.signal(signal.SIGUSR1, lambda *_: time.sleep(1000))\n"
    )
    search = Running(tmp_path / "run", "workers.job_seconds=15", PYTHONPATH=str(nap))
    for tells, number in ((3, signal.SIGKILL), (6, signal.SIGSTOP), (9, signal.SIGUSR1)):
        search.wait_for(tells=tells)
        search.worker.send_signal(number)
    status, out, err = search.end()
    assert (status, err) == (0, "")
    said = [line for line in out.splitlines() if line.startswith("worker ")]
    assert len(said) == 3
    assert said[0].startswith("worker cpu was killed by SIGKILL")
    assert said[1].startswith("worker cpu hung: no sign of life for 6 seconds at candidate ")
    assert re.match(r"worker cpu gave no result for \d+ seconds at candidate ", said[2])
    assert all("another takes its place" in line for line in said)
    assert_equal(tmp_path / "run", undisturbed)


def test_a_search_that_is_stopped_for_a_while(undisturbed, tmp_path):
    search = Running(tmp_path / "run")
    for tells in (2, 9):
        search.wait_for(tells=tells)
        search.process.send_signal(signal.SIGSTOP)
        time.sleep(15)  # more than twice the patience with a worker
        search.process.send_signal(signal.SIGCONT)
    status, out, err = search.end()
    assert (status, err) == (0, "")
    assert "\nworker " not in out
    assert_equal(tmp_path / "run", undisturbed)


def test_a_search_that_is_killed(undisturbed, tmp_path):
    for tells, before in ((3, None), (9, signal.SIGSTOP)):
        search = Running(tmp_path / "run")
        search.wait_for(tells=tells)
        if before is not None:
            search.worker.send_signal(before)  # a worker that hangs goes too
        search.kill()
    finish(tmp_path / "run")
    assert_equal(tmp_path / "run", undisturbed)


# ---- memory ----------------------------------------------------------------------------------------------------------


@contextmanager
def memory_group(limit):
    """A group of processes that may take so many bytes more; yields the file that takes their ids."""
    version_1 = Path("/sys/fs/cgroup/memory")
    folder = (version_1 if version_1.is_dir() else version_1.parent) / f"evomerge-{uuid.uuid4().hex[:8]}"
    try:
        folder.mkdir()
        (folder / ("memory.limit_in_bytes" if version_1.is_dir() else "memory.max")).write_text(str(limit))
    except OSError as error:
        pytest.skip(f"no memory groups here: {error}")
    try:
        yield folder / "cgroup.procs"
    finally:
        folder.rmdir()


@root_only
def test_a_worker_that_the_kernel_kills_for_want_of_memory(undisturbed, tmp_path):
    search = Running(tmp_path / "run")
    with memory_group(2**20) as group:
        search.wait_for(tells=8)
        group.write_text(str(search.worker.pid))
        status, out, err = search.end()
    assert (status, err) == (0, "")
    (line,) = [line for line in out.splitlines() if line.startswith("worker ")]
    assert line.startswith("worker cpu was killed by the kernel, which was out of memory at candidate ")
    assert line.endswith("; another takes its place and tries again in smaller batches")
    assert_equal(tmp_path / "run", undisturbed)


@dataclass(frozen=True)
class Hungry(Trouble):
    """A factory of scorers that take more memory than their group has, for some candidates; see `Trouble`."""

    group: Path = Path()

    def alike(self, settings):
        return replace(self, settings={**settings})

    def happen(self, what):
        if what == "hungry":
            self.group.write_text(str(os.getpid()))
            _ = b"x" * 2**26
        super().happen(what if what != "hungry" else "")


@root_only
def test_what_the_kernel_kills_two_workers_at_is_a_failure_of_memory(tmp_path):
    said = []
    with memory_group(2**20) as group, closing(SpawnedPool()) as pool:
        pool.start(Hungry(tmp_path, always={1: "hungry"}, group=group), ["cpu"], said.append)
        found = {}
        for number in (0, 1, 2):
            pool.submit(pool.idle()[0], job(number))
            while number not in found:
                found |= {done.number: (done, outcome) for done, outcome in pool.poll()}
    reason = "was killed by the kernel, which was out of memory"
    assert [type(outcome) for _, outcome in found.values()] == [Scored, Failure, Scored]
    assert found[1][1] == Failure("memory", f"two workers in a row at it, the last {reason}")
    assert [done.sparing for done, _ in found.values()] == [False, True, False]
    again = "another takes its place and tries again in smaller batches"
    assert said[1:] == [
        f"worker cpu {reason} at candidate 1; {again}",
        f"worker cpu {reason}, the second one at candidate 1, which is given up",
    ]


def test_a_worker_that_gets_too_little_memory_for_a_batch(tmp_path):
    """Batches of 128 answers take 130 MB; what a worker has is 60: it answers them in halves."""
    overrides = ("budget.candidates=2", "items.selection=128", "evaluation.batch_size=128")
    for name, room in (("unlimited", None), ("limited", 60 * 2**20)):
        search = Running(tmp_path / name, *overrides)
        search.wait_for(tells=9)  # all that have small batches
        worker = search.worker
        before = worker.memory_info().vms
        if room is not None:
            worker.rlimit(resource.RLIMIT_AS, (before + room, resource.RLIM_INFINITY))
        most = 0
        while search.tells() < 15:
            most = max(most, _peak(worker))
            time.sleep(0.05)
        assert (most <= before + 60 * 2**20) == (room is not None), "else this shows nothing"
        status, out, err = search.end()
        assert (status, err) == (0, "")
        assert "\nworker " not in out
    assert_equal(tmp_path / "limited", tmp_path / "unlimited")


def _peak(process):
    """The most bytes of addresses that a process has had."""
    with open(f"/proc/{process.pid}/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmPeak"))


# ---- disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def disk(folder, size):
    """A small disk of its own for a run."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"nothing can be mounted here: {mounted.stderr}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path, *, but=0):
    """Take all room that a disk has left, but for so many bytes."""
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            file.truncate(file.tell() - but)


@root_only
def test_a_disk_that_is_full(undisturbed, tmp_path):
    folder = tmp_path / "disk"
    run, filler, full = folder / "run", folder / "filler", "No space left on device"
    with disk(folder, "16M"):
        search = Running(run)
        search.wait_for(tells=9)
        fill(filler)
        status, _, err = search.end()
        assert status == 1
        assert err.startswith(f"evomerge: {run}/")
        assert err.endswith(f": cannot be written: {full}; {SAFE}")
        assert err.count("\n") == 1
        status, _, err = Running(run).end()  # full still
        assert (status, err) == (1, f"evomerge: {run}: cannot be used as a run directory: {full}\n")
        filler.unlink()
        fill(filler, but=2**20)  # too little for the page, which comes last
        status, _, err = Running(run).end()
        assert (status, err) == (1, f"evomerge: {run}/report.html: cannot be written: {full}; {SAFE}")
        filler.unlink()
        finish(run)
        assert_equal(run, undisturbed)


class Ext4:
    """A file system in a file, mounted on a folder."""

    def __init__(self, folder):
        self._folder, self._image = folder, folder.with_suffix(".img")
        folder.mkdir()
        with self._image.open("wb") as file:
            file.truncate(2**26)
        self._run("mkfs.ext4", "-q", "-O", "^has_journal", str(self._image))

    def mount(self):
        self._run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self._folder))

    def fail(self):
        """Have the kernel find an error in it: it turns read-only, also for files that are open."""
        device = self._run("findmnt", "-no", "SOURCE", str(self._folder)).strip()
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1")

    def repair(self):
        """Go on with a copy: in a mount namespace of a process that runs meanwhile the old one may live on."""
        self._run("blockdev", "--flushbufs", self._run("findmnt", "-no", "SOURCE", str(self._folder)).strip())
        self._run("umount", str(self._folder))
        self._image = Path(shutil.copyfile(self._image, self._image.with_suffix(".copy")))
        subprocess.run(["e2fsck", "-fy", str(self._image)], capture_output=True, check=False)  # status 1: it mended
        self.mount()

    def unmount(self):
        subprocess.run(["umount", "-l", str(self._folder)], capture_output=True, check=False)

    def _run(self, *words):
        try:
            return subprocess.run(words, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be made here: {error}")


@root_only
def test_a_file_system_that_turns_read_only(undisturbed, tmp_path):
    system = Ext4(tmp_path / "disk")
    run, why = tmp_path / "disk" / "run", "Read-only file system"
    system.mount()
    try:
        search = Running(run)
        search.wait_for(tells=9)
        system.fail()
        status, _, err = search.end()
        assert status == 1
        assert err.startswith(f"evomerge: {run}/")
        assert err.endswith(f": cannot be written: {why}; {SAFE}")
        assert err.count("\n") == 1
        status, _, err = Running(run).end()  # read-only still
        assert (status, err) == (1, f"evomerge: {run}: cannot be used as a run directory: {why}\n")
        system.repair()
        finish(run)
        assert_equal(run, undisturbed)
    finally:
        system.unmount()


# ---- clocks ----------------------------------------------------------------------------------------------------------

#: What a process asks for the time of day, shifted by the seconds in a file.
CLOCK = """
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static volatile long *shift;
__attribute__((constructor)) static void begin(void) {
    int file = open(getenv("CLOCK_SHIFT"), O_RDONLY);
    shift = mmap(0, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int status = syscall(SYS_clock_gettime, clock, now);
    if (status == 0 && shift && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += *shift;
    return status;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""


def test_a_clock_that_jumps(undisturbed, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here, to build a clock that jumps")
    (tmp_path / "clock.c").write_text(CLOCK)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", "clock.so", "clock.c"], cwd=tmp_path, check=True)
    shift, run = tmp_path / "shift", tmp_path / "run"
    shift.write_bytes(bytes(8))
    clock = {"LD_PRELOAD": str(tmp_path / "clock.so"), "CLOCK_SHIFT": str(shift)}

    def jump(hours):
        with shift.open("r+b", buffering=0) as file:  # the processes have this very file in their memory
            file.write(struct.pack("l", hours * 3600))

    budget = "budget.seconds=3000"
    search = Running(run, budget, **clock)
    for tells, hours in ((2, 5), (4, -4), (6, 20)):
        search.wait_for(tells=tells)
        jump(hours)
    search.wait_for(tells=8)
    search.kill()
    jump(-30)  # what is written now is older than all that was written before
    search = Running(run, budget, **clock)
    search.wait_for(tells=10)
    jump(30)
    time.sleep(2)
    status = json.loads((run / "status.json").read_text())
    assert abs(datetime.fromisoformat(status["updated"]).timestamp() - time.time() - 30 * 3600) < 60
    assert status["seconds"] < 200
    assert status["seconds_left"]["expected"] < 200
    status, out, err = search.end()
    assert (status, err) == (0, "")
    assert "\nworker " not in out
    assert_equal(run, undisturbed)
    with (run / "ledger.jsonl").open() as file:
        assert all(0 < event["seconds"] < 60 for event in map(json.loads, file) if event["event"] == "tell")
