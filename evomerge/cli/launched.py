"""What is different where a job of a sweep runs in a process of its own, which a launcher of Hydra has started.

A scheduler that wants the node back sends a signal. The launcher's own handler (submitit's) would hand the job back
wherever the search happens to be; here the search ends first, with its files in order. This file knows nothing about
searches.
"""

import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from evomerge.cli.termination import Terminated, raising_terminated
from evomerge.errors import SAFE, EvomergeError, WorkError

#: The packages of launchers.
_LAUNCHERS = ("hydra_plugins", "submitit", "joblib")


@contextmanager
def launched() -> Iterator[None]:
    """Run a job; at a signal end it, and have the launcher queue it again unless somebody has cancelled it.

    Raises `EvomergeError` or `OSError` for all that goes wrong; what is no error for users is printed in full first.
    """
    try:
        with raising_terminated():
            yield
    except Terminated as stop:
        queue_again = signal.getsignal(signal.SIGUSR2)
        if callable(queue_again) and (signal.SIGUSR2 in stop.came or _preempted()):
            try:
                queue_again(signal.SIGUSR2, None)
            except SystemExit as ending:  # the libraries take seconds to end, which may be all that there are
                with suppress(OSError):
                    sys.stdout.flush()
                    sys.stderr.flush()
                os._exit(ending.code & 255 if isinstance(ending.code, int) else 1)
            except Exception as error:
                raise WorkError(f"{stop}; {' '.join(str(error).split()).rstrip('.')}; {SAFE}") from None
        raise WorkError(f"{stop}; {SAFE}") from None
    except (EvomergeError, OSError):
        raise
    except Exception as error:
        traceback.print_exc(file=sys.stderr)  # into the job's own log: only the error travels
        raise WorkError(f"{type(error).__name__}: {error}") from None


class WithoutHydrasLine:
    """A stream that leaves out what Hydra says of a job's error before it raises that."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write a text, unless it is Hydra's."""
        return len(text) if text.startswith("Error executing job with overrides: ") else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        """Return what the stream has besides."""
        return getattr(self._stream, name)


def by_launcher(error: Exception) -> bool:
    """Say whether an error comes from a launcher's own code: a job that left no result, a queue that refuses it."""
    frame = error.__traceback__
    while frame is not None:
        if str(frame.tb_frame.f_globals.get("__name__")).partition(".")[0] in _LAUNCHERS:
            return True
        frame = frame.tb_next
    return False


def _preempted() -> bool:
    """Say whether Slurm wants this job's node for another job.

    It queues a job again that it has to kill at the end of its grace time, but not one that ends before that by itself.
    A job that was cancelled gets the same signal and is to stay so.
    """
    if "SLURM_JOB_ID" not in os.environ or shutil.which("scontrol") is None:
        return False
    array, task = (os.environ.get(f"SLURM_ARRAY_{part}_ID") for part in ("JOB", "TASK"))
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", "--oneliner", job], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    facts = dict(word.partition("=")[::2] for word in shown.stdout.split())
    return facts.get("JobState") == "RUNNING" and facts.get("PreemptTime", "None") != "None"
