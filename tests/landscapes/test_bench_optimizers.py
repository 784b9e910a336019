"""The benchmark of optimizers: its arithmetic, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from evomerge.landscapes import landscape
from scripts.bench_optimizers import Archive, Cell, Row, Spent, beats, checkpoints, ratio, run_all, run_cell

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_optimizers.py"


def row(name, values):
    return Row("place", "regret", name, {seed: [value] for seed, value in enumerate(values)}, {0: 1.0})


def cell(optimizer, seed=0, *, problem="merge-6d-2", budget=32):
    return Cell(problem, optimizer, seed, budget, 32, "nowhere.npz")


def test_ratios_and_verdicts_are_paired_over_seeds():
    control = row("random", [0.2, 0.4, 0.6, 0.8])
    half, same, worse = (
        row(n, v) for n, v in (("a", [0.1, 0.2, 0.3, 0.4]), ("b", [0.2, 0.5, 0.5, 0.8]), ("c", [1] * 4))
    )
    assert ratio(half, control) == pytest.approx((0.5, 0.5, 0.5))
    assert [beats(other, control) for other in (half, same, worse)] == ["yes", "?", "no"]
    fewer = row("d", [0.1, 0.2])
    assert ratio(fewer, control)[0] == pytest.approx(0.5)  # the seeds that both have


def test_an_archive_stops_when_the_budget_is_spent():
    problem = landscape("merge-6d-2")
    archive = Archive(problem.sample(16, 0), 2)
    base = problem.baselines["base"]
    assert archive.scores(base) == [0.0, 0.0]
    archive.result(problem.baselines["expert0"])
    with pytest.raises(Spent):
        archive.result(base)
    assert archive.points[0] == base
    assert max(archive.observed[1]) == 1.0


@pytest.mark.parametrize("optimizer", ["random", "pycma fmin2", "optuna TPE", "pymoo NSGA-II"])
def test_a_search_spends_its_budget_and_is_measured(optimizer):
    found = run_cell(cell(optimizer))
    assert "error" not in found
    for measure in ("regret", "volume", "all scored"):
        assert len(found[measure]) == len(checkpoints(32)) == 4
        assert all(0 <= missing <= 1.5 for missing in found[measure])
    assert np.diff(found["all scored"]).max() <= 0  # what was scored does not go away
    assert (np.array(found["all scored"]) <= found["volume"]).all()
    again = run_cell(cell(optimizer))
    assert {**again, "seconds": 0} == {**found, "seconds": 0}


def test_with_one_objective_there_is_no_volume():
    found = run_cell(cell("random", problem="merge-6d-1"))
    assert found["volume"] == []
    assert len(found["regret"]) == 4


def test_one_that_fails_is_reported():
    assert "error" in run_cell(cell("no such optimizer"))


def test_finished_searches_are_not_repeated(tmp_path):
    cells = [cell("random", seed) for seed in range(2)]
    first = run_all(cells[:1], 1, tmp_path)
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    assert len(lines) == 1
    both = run_all(cells, 1, tmp_path)
    assert both[0] == {"key": cells[0].key(), **first[0]}  # with the same seconds: it was read
    assert [entry["seed"] for entry in both] == [0, 1]


@pytest.mark.slow
def test_the_quick_benchmark_prints_its_tables(tmp_path):
    command = [sys.executable, str(SCRIPT), "--quick", "--jobs", "2", "--json", str(tmp_path / "out.json")]
    command += ["--optimizers", "random", "cmaes", "optuna TPE", "--landscapes", "merge-3d-3", "merge-6d-1"]
    done = subprocess.run([*command, "--budget", "200"], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "out.json").read_text())
    assert list(report["tables"]) == ["merge-3d-3: volume", "merge-3d-3: regret", "merge-6d-1: regret"]
    assert set(report["tables"]["merge-3d-3: volume"]) == {"random", "cmaes", "optuna TPE"}
    assert 0.9 < report["target: merge-3d-3"]["grid"] < 1
    assert {entry["optimizer"] for entry in report["wins: all"]} == {"random", "cmaes", "optuna TPE"}
    assert "the default should be" in done.stdout
    assert "failed" not in done.stdout
