"""The benchmark of promises: its arithmetic, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from scripts.bench_promise import preferences, summarise

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_promise.py"


@pytest.mark.parametrize("tasks", [1, 2, 3, 4])
def test_each_task_alone_all_alike_and_others(tasks):
    found = preferences(tasks, 0)
    assert found.shape == (12, tasks)
    assert (found[:tasks] == np.eye(tasks)).all()
    assert (found[tasks] == 1.0).all()
    assert found.min() >= 0.0
    assert (np.round(found, 2) == found).all()
    assert len(np.unique(found, axis=0)) >= min(12, 3 ** (tasks - 1))


def test_a_promise_is_kept_if_all_tasks_keep_it():
    rows = [{"kept": [True, True]}] * 9 + [{"kept": [True, False]}]
    found = summarise([{"rows": rows}, {"rows": [*rows[1:], {"kept": [False, False]}]}])
    assert found["kept"] == pytest.approx(17 / 20)
    assert found["tasks_kept"] == pytest.approx((19 + 17) / 40)
    assert found["searches_that_reach_the_target"] == 0.5


@pytest.mark.slow
def test_the_quick_part_runs(tmp_path):
    file = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quick", "--json", str(file)], capture_output=True, text=True, check=True
    )
    assert "Promises kept" in done.stdout
    report = json.loads(file.read_text())
    for data in report["simulated"].values():
        assert 0.0 <= data["kept"] <= data["tasks_kept"] <= 1.0
        assert 0.0 < data["width"] < 1.0
