"""Jobs that share a host, as real processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.errors import UsageError
from evomerge.search.workers.turns import turn

HOLD = """
import os, sys
from evomerge.memory import sharing
from evomerge.search.workers.turns import turn
with turn(int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], sharing(), *sorted(os.sched_getaffinity(0)), flush=True)
    sys.stdin.read()
"""


def hold(folder: Path, at_once: int, gpus: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "TMPDIR": str(folder), "CUDA_VISIBLE_DEVICES": gpus}
    command = [sys.executable, "-c", HOLD, str(at_once)]
    return subprocess.Popen(command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_each_has_its_part_and_the_third_has_that_of_one_that_was_killed(tmp_path: Path) -> None:
    processors = sorted(os.sched_getaffinity(0))
    jobs = [hold(tmp_path, 2, "4,5,6") for _ in range(2)]
    seen = {job.stdout.readline().strip() for job in jobs}
    half = len(processors) // 2
    parts = (processors[:half], processors[half:]) if half else (processors, processors)
    wanted = [" ".join([gpus, "2", *map(str, part)]) for gpus, part in zip(("4", "5,6"), parts, strict=True)]
    assert seen == set(wanted)
    third = hold(tmp_path, 2, "4,5,6")
    with pytest.raises(subprocess.TimeoutExpired):
        third.wait(2)
    assert third.poll() is None, "it waits for its turn"
    jobs[0].send_signal(signal.SIGKILL)
    assert third.stdout.readline().strip() in seen
    for job in (jobs[1], third):
        assert job.communicate()[1] is None
        assert job.returncode == 0
    jobs[0].wait()


def test_too_few_gpus_and_no_turns_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(UsageError, match="3 jobs cannot share 2 GPUs"), turn(3):
        pass
    with turn(None):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.parametrize("thing", ["link", "file", "another's"])
def test_locks_lie_in_a_folder_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thing: str) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    place = tmp_path / f"evomerge-{os.getuid()}"
    if thing == "link":
        (tmp_path / "elsewhere").mkdir()
        place.symlink_to(tmp_path / "elsewhere")
    elif thing == "file":
        place.write_text("")
    else:
        place.mkdir()
        if os.getuid():
            pytest.skip("only root can give a folder away")
        os.chown(place, 12345, 12345)
    with pytest.raises(UsageError, match="is not a folder of yours"), turn(1):
        pass
