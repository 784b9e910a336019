"""Whether an answer in mathematical notation equals the right one, by math-verify (extra `math`).

A model may write a power tower or a factorial whose evaluation takes hours or all memory, so the comparison runs in a
helper process (`mathematics_helper.py`) with limits, which is stopped and started again where it does not answer.
`verify_answers` is a filter, since a filter sees all answers at once; `score_verdict` is the task's `process_results`.
This file knows nothing about models.
"""

import atexit
import json
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from evomerge.errors import WorkError

_HELPER = Path(__file__).with_name("mathematics_helper.py")
_START_SECONDS = 120.0  # to import sympy on a busy machine


def verify_answers(answers: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Return for each answer of each item, which holds its right answer in `gold`, "right" or "wrong"."""
    verifier = shared_verifier()
    return [
        ["right" if verifier.equal(doc["gold"], answer) else "wrong" for answer in row]
        for row, doc in zip(answers, docs, strict=True)
    ]


def score_verdict(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return the item's metrics: `math_verify` is 1 if the answer equals the right one."""
    return {"math_verify": float(results[0] == "right")}


class Verifier:
    """A helper process that compares answers; may be used by several threads.

    Args:
        seconds: how long a comparison may take; beyond it the answer counts as wrong. math-verify has limits of its
            own of 5 seconds for each step, which do not stop everything.
        memory_mb: megabytes of address space of the helper.
    """

    def __init__(self, *, seconds: float = 20.0, memory_mb: int = 4096) -> None:
        self._seconds, self._memory_mb = seconds, memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def equal(self, gold: str, answer: str) -> bool:
        """Say whether the answer found in a text equals the one found in `gold`.

        An answer under which the helper dies twice is wrong. Raises `WorkError` if the helper cannot be started.
        """
        with self._lock:
            for _ in range(2):
                if self._process is None:
                    self._start()
                try:
                    reply = self._ask(json.dumps([gold, answer]).encode() + b"\n", self._seconds)
                    return bool(json.loads(reply))
                except TimeoutError:
                    self.close()
                    return False
                except OSError:
                    self.close()
            return False

    def close(self) -> None:
        """End the helper."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()

    def _start(self) -> None:
        # -P: else the folder of the helper, which holds a types.py, would come before the standard library.
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_HELPER), str(self._memory_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            start_new_session=True,
        )
        try:
            self._ask(b"", _START_SECONDS)
        except OSError:
            self.close()
            raise WorkError(
                "math-verify cannot be started; is the extra installed? pip install 'evomerge[math]'"
            ) from None

    def _ask(self, line: bytes, seconds: float) -> bytes:
        """Send a line and return the line that comes back; `OSError` if the helper is gone, `TimeoutError` if late."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while line:
            line = line[self._process.stdin.write(line) or 0 :]
        reply = b""
        while not reply.endswith(b"\n"):
            if not select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError
            part = self._process.stdout.read(4096)
            if not part:
                raise BrokenPipeError
            reply += part
        return reply


@lru_cache(maxsize=1)
def shared_verifier() -> Verifier:
    """Return the verifier that all tasks of this process share; its helper starts on first use."""
    verifier = Verifier()
    atexit.register(verifier.close)
    return verifier
