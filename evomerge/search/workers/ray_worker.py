"""The worker that is a Ray actor: builds its scorer, scores one job after the other, and shows that it is alive.

Its answers are those of `serving.py`. This file knows nothing about scoring, nor of Ray, and imports nothing heavy.
"""

import os
import pickle
import socket
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from evomerge.errors import UsageError
from evomerge.search.workers.base import Job
from evomerge.search.workers.serving import Answer, answer, build


@dataclass(frozen=True)
class Sign:
    """A sign of life: where the worker is, and what it has to say since the last."""

    host: str
    lines: tuple[str, ...]


class RayWorker:
    """Serves one search; jobs one at a time, signs of life also meanwhile.

    Args:
        folder: the search's current directory, which is to be this worker's too.
        environment: settings of libraries that hold where the host has none of its own.
    """

    def __init__(self, folder: str, environment: Mapping[str, str]) -> None:
        for name, value in environment.items():
            os.environ.setdefault(name, value)
        self._folder = folder
        self._lines = deque[str]()  # of both threads, that of the scorer and that of the signs

    def sign(self) -> Sign:
        """Show that the process lives."""
        return Sign(socket.gethostname(), self._taken())

    def build(self, factory: bytes, device: str) -> list[Answer]:
        """Build the scorer; the factory comes packed, so that its libraries are loaded here, under the settings."""
        try:
            os.chdir(self._folder)
        except OSError as error:
            reason = f"{socket.gethostname()} cannot go to {self._folder}: {error.strerror}"
            return [("refused", UsageError(f"workers=ray: {reason}; search in a folder that all hosts share"))]
        self._scorer, built = build(lambda *words: pickle.loads(factory)(*words), device, self._lines.append)
        return [*(("say", line) for line in self._taken()), built]

    def score(self, job: Job) -> list[Answer]:
        """Score a job."""
        assert self._scorer is not None
        return [answer(self._scorer, job)]

    def _taken(self) -> tuple[str, ...]:
        lines = []
        with suppress(IndexError):
            while True:
                lines.append(self._lines.popleft())
        return tuple(lines)
