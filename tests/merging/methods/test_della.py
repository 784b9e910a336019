"""DELLA: keep probabilities by rank, within bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.mask import threshold
from evomerge.merging.methods.della import rank_mask
from tests.merging.methods.support import run


@given(st.floats(0, 1), st.floats(0, 1), st.integers(1, 40))
def test_thresholds_are_those_of_the_mask(density: float, epsilon: float, columns: int) -> None:
    found = rank_mask(density, epsilon, columns, inv_keep=True)
    step = 2 * epsilon / max(columns - 1, 1)
    for rank, (t, factor) in enumerate(zip(found.thresholds, found.factors, strict=True)):
        keep = density if columns == 1 else min(max(density - epsilon + rank * step, 0.0), 1.0)
        assert abs(int(t) - threshold(1.0 - keep)) <= 1  # the last bit of the probability
        assert float(factor) == pytest.approx(65536 / (65536 - int(t)) if t < 65536 else 0.0)
    assert bool((np.diff(found.thresholds) <= 0).all())


def _keep_rates(delta: torch.Tensor, drop_rate: float, epsilon: float, masks: int) -> torch.Tensor:
    parameters = {"weight": 1.0, "drop_rate": drop_rate, "epsilon": epsilon}
    base = torch.zeros_like(delta)
    return sum(
        (run("della_linear", base, {"math": delta}, parameters, seed=seed) != 0).double() for seed in range(masks)
    ) / torch.tensor(float(masks))


def test_large_elements_are_kept_more_often() -> None:
    delta = torch.tensor([[0.3, -0.1, 0.2, 0.5, 0.4], [1.0, 2.0, -3.0, 5.0, 4.0]])
    expected = torch.tensor([[0.5, 0.3, 0.4, 0.7, 0.6], [0.3, 0.4, 0.5, 0.7, 0.6]])
    assert _keep_rates(delta, 0.5, 0.2, 1500).numpy() == pytest.approx(expected.numpy(), abs=0.065)


@given(a=st.floats(0, 1), b=st.floats(0, 1), epsilon=st.floats(0, 0.6), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_what_is_kept_is_nested(a: float, b: float, epsilon: float, seed: int) -> None:
    delta = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.02, (12, 31)).astype(np.float32))
    parameters = [{"weight": 1.0, "drop_rate": rate, "epsilon": epsilon} for rate in (min(a, b), max(a, b))]
    kept = [run("della_linear", torch.zeros(12, 31), {"math": delta}, p, seed=seed) != 0 for p in parameters]
    if min(a, b) > 0 and max(a, b) < 1:  # at 0 and at 1 epsilon has no part
        assert not (kept[1] & ~kept[0]).any()


def test_probabilities_are_clipped() -> None:
    delta = torch.tensor([[1.0, 2.0, 3.0]])
    assert _keep_rates(delta, 0.5, 0.9, 400).numpy() == pytest.approx(np.array([[0.0, 0.5, 1.0]]), abs=0.12)


def test_a_row_of_one_is_kept_with_the_density() -> None:
    assert float(_keep_rates(torch.ones(1000, 1), 0.3, 0.2, 3).mean()) == pytest.approx(0.7, abs=0.05)


def test_inv_keep_has_the_right_mean() -> None:
    delta = torch.tensor([[0.3, -0.1, 0.2, 0.5, 0.4]])
    parameters, options = {"weight": 1.0, "drop_rate": 0.5, "epsilon": 0.3}, {"rescale": "inv_keep"}
    masks = 1500
    total = sum(
        run("della_linear", torch.zeros_like(delta), {"math": delta}, parameters, options, seed=seed).double()
        for seed in range(masks)
    )
    assert ((total / masks - delta).abs() < 5 * delta.abs() * (4 / masks) ** 0.5).all()


def test_l1_restores_the_norm() -> None:
    delta = torch.from_numpy(np.random.default_rng(0).normal(0, 0.02, (30, 40)).astype(np.float32))
    parameters = {"weight": 1.0, "drop_rate": 0.6}
    merged = run("della_linear", torch.zeros_like(delta), {"math": delta}, parameters)
    assert float(merged.abs().double().sum()) == pytest.approx(float(delta.abs().double().sum()), rel=1e-6)
