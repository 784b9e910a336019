"""Breadcrumbs: how many elements go at either end."""

import pytest
import torch

from tests.merging.methods.support import run


def _kept(n: int, drop_rate: float, gamma: float) -> list[float]:
    delta = torch.arange(1.0, n + 1.0)
    parameters = {"weight": 1.0, "drop_rate": drop_rate, "gamma": gamma}
    merged = run("breadcrumbs", torch.zeros(n), {"math": delta}, parameters)
    return [x for x in merged.tolist() if x]


@pytest.mark.parametrize(
    ("drop_rate", "gamma", "first", "last"),
    [
        (0.5, 0.1, 41, 90),  # 10 large ones go, and 40 small ones
        (0.5, 0.0, 51, 100),
        (0.05, 0.1, 1, 95),  # fewer large ones go than gamma says, so that 95 are kept
        (0.9, 0.001, 91, 100),  # gamma N is below 1
        (0.9, 0.9, 1, 10),
    ],
)
def test_keeps_the_middle(drop_rate: float, gamma: float, first: int, last: int) -> None:
    assert _kept(100, drop_rate, gamma) == [float(x) for x in range(first, last + 1)]


def test_nothing_dropped_keeps_the_large_ones_too() -> None:
    assert len(_kept(100, 0.0, 0.3)) == 100


def test_too_few_to_keep_one_keeps_none() -> None:
    assert _kept(10, 0.95, 0.0) == []


def test_elements_that_equal_an_edge_are_kept() -> None:
    delta = torch.tensor([1.0, -2.0, 2.0, 2.0, 3.0, 9.0])
    parameters = {"weight": 1.0, "drop_rate": 0.5, "gamma": 0.17}
    merged = run("breadcrumbs", torch.zeros(6), {"math": delta}, parameters)
    assert merged.tolist() == [0.0, -2.0, 2.0, 2.0, 3.0, 0.0]
