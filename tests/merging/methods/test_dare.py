"""DARE: what its mask and its rescaling mean, over masks."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.merging.methods.support import run


def _delta(n: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(0, 0.02, n).astype(np.float32))


def _thinned(delta: torch.Tensor, drop_rate: float, *, seed: int = 0, **options: object) -> torch.Tensor:
    return run(
        "dare_linear",
        torch.zeros_like(delta),
        {"math": delta},
        {"weight": 1.0, "drop_rate": drop_rate},
        options,
        seed=seed,
    )


@given(a=st.floats(0, 1), b=st.floats(0, 1), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_what_is_kept_is_nested(a: float, b: float, seed: int) -> None:
    kept = [_thinned(_delta(1000), rate, seed=seed) != 0 for rate in (min(a, b), max(a, b))]
    assert not (kept[1] & ~kept[0]).any()


@pytest.mark.parametrize("drop_rate", [0.3, 0.7])
def test_mean_and_variance_over_masks(drop_rate: float) -> None:
    """Mean d, variance p / (1 - p) d^2, for every element by itself."""
    delta, masks = _delta(64), 4000
    drawn = torch.stack([_thinned(delta, drop_rate, seed=seed).double() for seed in range(masks)])
    variance = drop_rate / (1 - drop_rate) * delta.double().square()
    assert ((drawn.mean(0) - delta).abs() < 5 * (variance / masks).sqrt() + 1e-9).all()
    # the standard error of a variance of a two-point distribution, its kurtosis included
    kurtosis = (1 - 3 * drop_rate * (1 - drop_rate)) / (drop_rate * (1 - drop_rate))
    error = variance * ((kurtosis - 1) / masks) ** 0.5
    assert ((drawn.var(0) - variance).abs() < 5 * error + 1e-9).all()


@given(drop_rate=st.floats(0, 0.999), seed=st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_what_is_kept_is_divided_by_the_exact_keep_probability(drop_rate: float, seed: int) -> None:
    delta = _delta(500)
    thinned = _thinned(delta, drop_rate, seed=seed)
    t = int(np.ceil(65536 * drop_rate - 0.5))
    expected = delta * np.float32(65536 / (65536 - t))
    assert torch.equal(thinned, torch.where(thinned != 0, expected, 0.0))


def test_l1_restores_the_norm() -> None:
    delta = _delta(3000)
    thinned = _thinned(delta, 0.9, rescale="l1")
    assert float((thinned != 0).float().mean()) == pytest.approx(0.1, abs=0.03)
    assert float(thinned.abs().double().sum()) == pytest.approx(float(delta.abs().double().sum()), rel=1e-6)


def test_l1_leaves_next_to_nothing_as_it_is() -> None:
    delta = _delta(20) * 1e-9
    thinned = _thinned(delta, 0.5, rescale="l1")
    assert torch.equal(thinned, torch.where(thinned != 0, delta, 0.0))
    assert not _thinned(torch.zeros(20), 0.5, rescale="l1").any()


def test_each_expert_has_a_mask_of_its_own() -> None:
    delta = _delta(2000)
    experts = {"code": delta, "math": delta}
    both = run("dare_linear", torch.zeros(2000), experts, {"weight": 1.0, "drop_rate": 0.5})
    counts = {round(float(x), 3) for x in (both / (2 * delta))}
    assert counts == {0.0, 1.0, 2.0}
