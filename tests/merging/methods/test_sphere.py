"""Slerp, NuSLERP, multi-slerp, Karcher mean and Model Stock: the geometry that they stand for."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.methods import WeightedSum, get
from tests.merging.methods.support import operands_of, run, settings_of


def _vector(seed: int, n: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 1, n).astype(np.float32))


def _angle(a: torch.Tensor, b: torch.Tensor) -> float:
    a, b = a.double(), b.double()
    return math.acos(min(max(float(a @ b / a.norm() / b.norm()), -1.0), 1.0))


@given(t=st.floats(0, 1), seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_slerp_of_unit_vectors_goes_along_the_great_circle_at_even_speed(t: float, seed: int) -> None:
    a, b = (v / v.norm() for v in (_vector(seed), _vector(seed + 1000)))
    merged = run("slerp", torch.zeros(40), {"a": a, "b": b}, {}, {"t": t})
    assert float(merged.norm()) == pytest.approx(1.0, abs=1e-5)
    assert _angle(a, merged) == pytest.approx(t * _angle(a, b), abs=2e-3)


def test_slerp_begins_at_the_base_of_one_expert_and_at_the_first_of_two() -> None:
    base, a, b = _vector(0), _vector(1), _vector(2)
    assert torch.allclose(run("slerp", base, {"a": a}, {}, {"t": 0.0}), base)
    assert torch.allclose(run("slerp", base, {"a": a}, {}, {"t": 1.0}), a)
    assert torch.allclose(run("slerp", base, {"a": a, "b": b}, {}, {"t": 0.0}), a)
    assert torch.allclose(run("slerp", base, {"a": a, "b": b}, {}, {"t": 1.0}), b)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_nearly_parallel_tensors_are_mixed_linearly(sign: float) -> None:
    a = _vector(3)
    b = sign * a + 0.01 * _vector(4)
    merged = run("slerp", torch.zeros(40), {"a": a, "b": b}, {}, {"t": 0.3})
    assert torch.allclose(merged, 0.7 * a + 0.3 * b, atol=1e-6)


@pytest.mark.parametrize("scale", [3.0, -3.0, 1.0, -1.0])
def test_nuslerp_of_parallel_task_vectors_is_linear(scale: float) -> None:
    base, d = _vector(0), _vector(1)
    experts = {"a": base + d, "b": base + scale * d}
    merged = run("nuslerp", base, experts, {"weight": {"a": 1.0, "b": 3.0}})
    assert torch.allclose(merged, base + (0.25 + 0.75 * scale) * d, atol=1e-4)


def test_nuslerp_by_rows_is_nuslerp_of_each_row() -> None:
    base, a, b = (_vector(seed).view(5, 8) for seed in (0, 1, 2))
    weight = {"weight": {"a": 0.6, "b": 0.3}}
    rows = [run("nuslerp", base[i], {"a": a[i], "b": b[i]}, weight) for i in range(5)]
    merged = run("nuslerp", base, {"a": a, "b": b}, weight, {"nuslerp_flatten": False})
    assert torch.allclose(merged, torch.stack(rows), atol=1e-6)
    columns = [run("nuslerp", base[:, i], {"a": a[:, i], "b": b[:, i]}, weight) for i in range(8)]
    options = {"nuslerp_flatten": False, "nuslerp_row_wise": True}
    merged = run("nuslerp", base, {"a": a, "b": b}, weight, options)
    assert torch.allclose(merged, torch.stack(columns, 1), atol=1e-6)


@pytest.mark.parametrize("method", ["multislerp", "karcher"])
def test_means_on_the_sphere_have_the_mean_length(method: str) -> None:
    experts = {f"e{i}": (i + 1) * _vector(i) for i in range(4)}
    merged = run(method, torch.zeros(40), experts, {"weight": 1.0} if method == "multislerp" else {})
    lengths = [float(x.double().norm()) for x in experts.values()]
    assert float(merged.double().norm()) == pytest.approx(sum(lengths) / 4, rel=1e-5)


def test_the_karcher_mean_is_where_the_pulls_cancel() -> None:
    experts = {f"e{i}": _vector(i) for i in range(4)}
    merged = run("karcher", torch.zeros(40), experts, {}, {"max_iter": 1000.0, "tol": 1e-9}).double()
    mean = merged / merged.norm()
    pull = torch.zeros_like(mean)
    for x in experts.values():
        u = x.double() / x.double().norm()
        cosine = float(u @ mean)
        pull += math.acos(cosine) / math.sin(math.acos(cosine)) * (u - cosine * mean)
    assert float(pull.norm()) < 1e-5


def test_two_experts_karcher_mean_is_half_way_along_the_arc() -> None:
    a, b = (v / v.norm() for v in (_vector(1), _vector(2)))
    merged = run("karcher", torch.zeros(40), {"a": a, "b": b})
    assert torch.allclose(merged, run("slerp", torch.zeros(40), {"a": a, "b": b}, {}, {"t": 0.5}), atol=1e-5)


def test_model_stock_is_the_mean_of_parallel_and_the_base_of_orthogonal_task_vectors() -> None:
    base = _vector(0)
    d = torch.zeros(40)
    d[:20] = 1.0
    other = torch.zeros(40)
    other[20:] = 1.0
    assert torch.allclose(run("model_stock", base, {"a": base + d, "b": base + 3 * d}), base + 2 * d, atol=1e-5)
    assert torch.allclose(run("model_stock", base, {"a": base + d, "b": base + other}), base, atol=1e-5)


@pytest.mark.parametrize(
    ("method", "options"), [("nuslerp", {}), ("model_stock", {}), ("sce", {}), ("slerp", {"t": 0.5})]
)
def test_whole_tensor_variants_are_weighted_sums(method: str, options: dict[str, float]) -> None:
    operands = operands_of(_vector(0), {"a": _vector(1), "b": _vector(2)})
    values = settings_of(method, operands.labels, {"weight": 1.0} if get(method).parameters else {}, options)
    assert isinstance(get(method).plan(operands, values), WeightedSum)
