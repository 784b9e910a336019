"""Scorers that do to their process what clusters do, one thing for each candidate."""

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from evomerge.errors import CandidateError, WorkError
from evomerge.evaluation.types import Outcome
from evomerge.recipes import Recipe
from evomerge.search.workers.base import Job, Scored

RECIPE = Recipe(method="linear", base="base", experts={"x": "x"}, parameters={"weight": 1.0})


def job(number, *items):
    return Job(number, RECIPE, "search", {"a": items or ("i",)})


def run(pool, numbers, until=60.0, wait=None, during=lambda found: None):
    """Have all numbers scored; return what was found. `during` is called before each wait for results."""
    left, found, end = list(numbers), {}, time.monotonic() + until
    while len(found) < len(numbers):
        assert time.monotonic() < end, found
        for worker in pool.idle():
            if left:
                pool.submit(worker, job(left.pop(0)))
        during(found)
        for done, outcome in pool.poll(wait):
            assert done.number not in found, "scored twice"
            found[done.number] = outcome
    assert pool.poll() == []
    return found


@dataclass(frozen=True)
class Trouble:
    """A factory of scorers; `first` and `always`: number -> what happens the first time, or each time.

    `birth`: what happens to a worker before it can score; `folder` remembers what has happened.
    """

    folder: Path
    first: dict = field(default_factory=dict)
    always: dict = field(default_factory=dict)
    birth: str = ""
    settings: dict = field(default_factory=lambda: {"batching": None})

    def __call__(self, device, say):
        say(f"{device} begins")
        self.happen(self.birth)
        return Troubled(self, {**self.settings, "batching": self.settings["batching"] or {"rows": os.getpid()}})

    def alike(self, settings):
        return Trouble(self.folder, self.first, self.always, self.birth, {**settings})

    def happen(self, what):
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif what == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif what == "exit":
            os._exit(3)
        elif what == "memory":
            _ = bytearray(1 << 60)
        elif what == "candidate":
            raise CandidateError("no such thing")
        elif what == "bug":
            raise ZeroDivisionError("of mine")
        elif what == "begin":
            subprocess.Popen(["sleep", "600"])
        elif what == "run":
            raise WorkError("the disk is full")
        elif what:
            time.sleep(float(what))


class Troubled:
    def __init__(self, trouble, settings):
        self.trouble, self.settings = trouble, settings

    def __call__(self, job):
        self.trouble.happen(self.trouble.always.get(job.number, ""))
        seen = self.trouble.folder / str(job.number)
        if not seen.exists():
            seen.touch()
            self.trouble.happen(self.trouble.first.get(job.number, ""))
        outcomes = {
            task: [Outcome(task, item, 1.0, 5, False, "", "") for item in ids] for task, ids in job.items.items()
        }
        return Scored(f"{os.environ.get('CUDA_VISIBLE_DEVICES')} {os.getpid()}", outcomes, 0.1)
