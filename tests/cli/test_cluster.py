"""Sweeps whose jobs are processes of submitit's on this host: told to end, queued again, cancelled."""

import contextlib
import json
import os
import pickle
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from evomerge.evaluation import OutcomeStore
from evomerge.search.directory import RunDirectory
from evomerge.search.results import mean_normalised, selected
from tests.search.runs import SMALL, command, environment, here, ledger

pytest.importorskip("submitit", reason="needs the extra `cluster`")

SWEPT = ["optimizer=random,cmaes", "seed=1,2"]
NAMES = [f"optimizer={optimizer},seed={seed}" for optimizer in ("random", "cmaes") for seed in (1, 2)]
RACING = ["budget.candidates=8", "racing.enabled=true", "racing.first=2", "racing.alpha=0.4"]
LOCAL = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=600"]


def words(sweep: Path, *more: str) -> list[str]:
    return ["search", "-m", *SMALL, f"hydra.sweep.dir={sweep}", f"evaluation.outcomes={sweep / 'outcomes'}", *more]


@contextlib.contextmanager
def started(sweep: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """Start a sweep under submitit; what is left of it at the end is killed."""
    process = subprocess.Popen(
        command(*words(sweep, *LOCAL, *more)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def events(run: Path) -> int:
    with contextlib.suppress(FileNotFoundError):
        return (run / "ledger.jsonl").read_bytes().count(b"\n")
    return 0


def status(run: Path) -> dict:
    with contextlib.suppress(FileNotFoundError):
        return json.loads((run / "status.json").read_text())
    return {"state": None, "pid": None}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def end(run: Path, number: int, *, longest: float = 30.0) -> None:
    """Send a signal to the process that searches in a run; it ends in about a second, unless many others run here."""
    pid, begun = status(run)["pid"], time.monotonic()
    os.kill(pid, number)
    while not gone(pid):
        assert time.monotonic() < begun + longest, "it does not end"
        time.sleep(0.01)
    print(f"{run.name}: {time.monotonic() - begun:.1f} s")
    assert (run / "ledger.jsonl").read_bytes().endswith(b"\n")


def returned(sweep: Path) -> list[float]:
    """What the jobs of a sweep have returned to the launcher, in no order."""
    found = [pickle.loads(path.read_bytes()) for path in sweep.glob(".submitit/*/*_result.pkl")]
    return [job.return_value for outcome, job in found if outcome == "success" and job.return_value is not None]


@pytest.mark.slow
def test_jobs_that_are_preempted_twice_end_as_if_nothing_had_been(tmp_path: Path) -> None:
    sweep, calm = tmp_path / "sweep", tmp_path / "calm"
    generator = random.Random(3)
    moments = {sweep / name: [generator.randint(3, 9), generator.randint(4, 8)] for name in NAMES}
    seen: dict[Path, tuple[int, int]] = dict.fromkeys(moments, (-1, 0))  # the process, and the events when it began
    with started(sweep, *SWEPT, *RACING) as process:
        while process.poll() is None and any(moments.values()):
            for run, left in moments.items():
                now = status(run)
                if not left or now["state"] != "running" or gone(now["pid"]):
                    continue
                if seen[run][0] != now["pid"]:
                    seen[run] = (now["pid"], events(run))
                if events(run) >= seen[run][1] + left[0]:
                    time.sleep(generator.uniform(0, 0.2))  # anywhere within the next step
                    end(run, signal.SIGUSR2)
                    assert status(run)["state"] == "interrupted"
                    left.pop(0)
            time.sleep(0.01)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert not any(moments.values()), "every job was preempted twice"
    done = here(*words(calm, *SWEPT, *RACING))
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert ledger(sweep / name) == ledger(calm / name), name
        for file in ("front.json", "best/recipe.yaml"):
            assert (sweep / name / file).read_bytes() == (calm / name / file).read_bytes()
    store = OutcomeStore(sweep / "outcomes")
    best = []
    for name in NAMES:
        record = RunDirectory(sweep / name).read()
        best.append(mean_normalised(record, selected(record)[0], "selection"))
        for trial in record.trials.values():
            kept = Counter(outcome.task for outcome in store.of_model(str(trial.fingerprint)))
            for task in ("zoo_math", "zoo_translate"):
                assert kept[task] >= sum(by_task[task].items for by_task in trial.scores.values()), "an answer was lost"
    assert sorted(returned(sweep)) == pytest.approx(sorted(best))
    assert [f"winner of the sweep: {sweep}" in out, "Scores on the report split" in out] == [True, True]
    assert sum((sweep / name / "report.json").exists() for name in NAMES) == 1


@pytest.mark.slow
def test_a_job_that_is_cancelled_stays_so_until_the_same_command_goes_on(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    more = ["seed=1,2", "budget.candidates=6"]
    run, other = (sweep / f"optimizer=random,seed={seed}" for seed in (1, 2))
    with started(sweep, *more) as process:
        while events(run) < 6 or status(run)["state"] != "running":
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.01)
        end(run, signal.SIGTERM)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert err == "evomerge: ended by SIGTERM; what was recorded is safe, the same command goes on from there\n"
    assert status(run)["state"] == "interrupted"
    assert status(other)["state"] == "finished"
    done = here(*words(sweep, *more))
    assert done.returncode == 0, done.stderr
    assert status(run)["state"] == "finished"
