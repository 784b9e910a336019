"""A job in a launcher's process, with real signals; what `scontrol` says was written down from Slurm 22.05."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evomerge.errors import SAFE

#: Handles signals as submitit does: one queues the job again, the other does nothing.
CHILD = """
import signal, sys, time
from evomerge.cli.launched import launched
def queue_again(number, frame):
    if "worn" in sys.argv:
        raise RuntimeError("Job not requeued because: timed-out too many times.")
    print("queued again", flush=True)
    sys.exit(144)
signal.signal(signal.SIGUSR2, queue_again)
signal.signal(signal.SIGTERM, lambda number, frame: print("not minded", flush=True))
try:
    with launched():
        if "broken" in sys.argv:
            print(1 / 0)
        try:
            print("begun", flush=True)
            time.sleep(60)
        finally:
            print("ending", flush=True)
            time.sleep(0.5)
            print("in order", flush=True)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
"""
CANCELLED = "JobId=7 ArrayJobId=5 ArrayTaskId=2 JobState=COMPLETING Reason=None PreemptTime=None Command=x"
PREEMPTED = "JobId=7 ArrayJobId=5 ArrayTaskId=2 JobState=RUNNING Reason=None PreemptTime=2026-11-22T02:00:52 Command=x"


def run(*words: str, signals: tuple[int, ...] = (), slurm: Path | None = None) -> tuple[list[str], int, str]:
    """Run a job, send the first signal when it has begun and others while it ends; returns its lines after `begun`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    if slurm is not None:
        environment |= {"PATH": f"{slurm}:{environment['PATH']}", "SLURM_JOB_ID": "7"}
        environment |= {"SLURM_ARRAY_JOB_ID": "5", "SLURM_ARRAY_TASK_ID": "2"}
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    for number, line in zip(signals, ("begun\n", "ending\n"), strict=False):
        assert process.stdout.readline() == line
        process.send_signal(number)
    out, err = process.communicate(timeout=60)
    return [line for line in out.splitlines() if line not in ("begun", "ending")], process.returncode, err


@pytest.mark.parametrize("signals", [(signal.SIGUSR2,), (signal.SIGTERM, signal.SIGUSR2), (signal.SIGUSR2,) * 2])
def test_the_job_ends_in_order_before_it_is_queued_again(signals: tuple[int, ...]) -> None:
    assert run(signals=signals) == (["in order", "queued again"], 144, "")


def test_a_job_that_somebody_ends_is_not_queued_again() -> None:
    assert run(signals=(signal.SIGTERM,)) == (["in order", f"WorkError: ended by SIGTERM; {SAFE}"], 0, "")


@pytest.mark.parametrize(("says", "again"), [(PREEMPTED, True), (CANCELLED, False), ("", False)])
def test_slurm_says_whether_it_was_preempted_or_cancelled(tmp_path: Path, says: str, again: bool) -> None:
    script = tmp_path / "scontrol"
    script.write_text(f'#!/bin/sh\n[ "$*" = "show job --oneliner 5_2" ] && echo "{says}"\n')
    script.chmod(0o755)
    lines, status, _ = run(signals=(signal.SIGTERM,), slurm=tmp_path)
    assert ("queued again" in lines, status) == (again, 144 if again else 0)


def test_a_job_that_may_not_be_queued_again_says_why() -> None:
    lines, _, _ = run("worn", signals=(signal.SIGUSR2,))
    why = "Job not requeued because: timed-out too many times"
    assert lines == ["in order", f"WorkError: ended by SIGUSR2; {why}; {SAFE}"]


def test_a_bug_is_one_line_to_the_launcher_and_whole_in_the_job_s_log() -> None:
    lines, _, err = run("broken")
    assert lines == ["WorkError: ZeroDivisionError: division by zero"]
    assert "Traceback" in err
    assert "ZeroDivisionError: division by zero" in err
