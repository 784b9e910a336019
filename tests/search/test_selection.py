"""The simulated searches of `scripts/bench_selection.py`: what the report says of the selected candidate is true."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_selection.py"


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_selection", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_selection"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["bench_selection"]


def searches(bench, count):
    return [
        bench.measure(1000 + i, way=bench.WAYS[i % 3], tasks=3 if i % 2 else 1, resamples=100 if i % 4 == 1 else 0)
        for i in range(count)
    ]


def test_the_search_flatters_and_the_report_does_not(bench):
    rows = searches(bench, 12)
    maximum, report = (
        np.array([row["maximum"] for row in rows]),
        np.array([np.mean(row["joined_error"]) for row in rows]),
    )
    assert maximum.mean() > 2 * maximum.std() / np.sqrt(12)
    assert abs(report.mean()) < 3 * report.std() / np.sqrt(12)
    assert abs(np.mean([row["shrunk"] for row in rows])) < 0.7 * maximum.mean()
    assert np.mean([row["joined_covered"] for row in rows]) >= 0.85
    assert bench.summarise(rows)["searches"] == 12


@pytest.mark.slow
def test_the_intervals_of_the_report_hold_the_truth(bench):
    rows = searches(bench, 400)
    errors = np.array([np.mean(row["joined_error"]) for row in rows])
    assert abs(errors.mean()) < 3 * errors.std() / np.sqrt(len(errors))
    for key in ("covered", "joined_covered"):
        assert 0.94 <= np.mean([np.mean(row[key]) for row in rows]) <= 0.965
    fronts = [row for row in rows if "front_covered" in row]
    assert 0.85 <= np.mean([row["front_covered"] for row in fronts]) <= 1.0
    assert abs(np.mean([row["front_error"] for row in fronts])) < np.mean([row["front_plain_error"] for row in fronts])
