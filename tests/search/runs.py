"""Real searches in processes of their own, for tests: small budgets on the models that ship with evomerge."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

from evomerge.cli import main

SMALL = [
    "space=global",
    "optimizer=random",
    "~tasks.zoo_code",
    "budget.candidates=4",
    "items={search: 6, selection: 6, report: 8}",
    "baselines.grid=[0.5]",
    "baselines.untuned=[lines]",
    "selection.finalists=2",
    "evaluation.batch_size=16",
]


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "evomerge.cli", *arguments]


def environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def evomerge(*arguments: str, cwd: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run(
        command(*arguments), capture_output=True, text=True, cwd=cwd, env=environment(), timeout=timeout, check=False
    )


def here(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process: the same answer in a fraction of the time, the libraries being loaded."""
    out, err, argv = io.StringIO(), io.StringIO(), sys.argv
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(list(arguments))
    finally:
        sys.argv = argv
    return subprocess.CompletedProcess(list(arguments), status, out.getvalue(), err.getvalue())


def search_arguments(run: Path, *overrides: str) -> list[str]:
    return ["search", *SMALL, f"hydra.run.dir={run}", *overrides]


def search(run: Path, *overrides: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    return evomerge(*search_arguments(run, *overrides), timeout=timeout)


def ledger(run: Path) -> list[dict]:
    """The events of a run without the times, which are the one thing that differs between two equal runs."""
    events = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    return [{key: value for key, value in event.items() if key != "seconds"} for event in events]
