"""Every method against its float64 reference, and the laws that hold whatever the numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.mask import uniforms
from evomerge.merging.methods import METHODS, Operands, Settings, density, get
from tests.merging.methods.references import merge as reference

LABELS = ("code", "math", "prose")
STOCHASTIC = ("dare_linear", "dare_ties")


def _tensors(
    n: int = 4099, seed: int = 0, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    base = 0.1 * torch.randn(n, generator=generator)
    return base.to(dtype), {label: (base + 0.02 * torch.randn(n, generator=generator)).to(dtype) for label in LABELS}


def _options(method: str, **options: Any) -> dict[str, Any]:
    return {p.name: p.default for p in get(method).options} | options


def _merge(
    method: str,
    base: torch.Tensor,
    experts: dict[str, torch.Tensor],
    weights: dict[str, float],
    drop_rates: dict[str, float] | None = None,
    *,
    seed: int = 0,
    block: int | None = None,
    **options: Any,
) -> torch.Tensor:
    labels = sorted(experts)
    values = tuple({"weight": weights[label], "drop_rate": (drop_rates or {}).get(label, 0.0)} for label in labels)
    operands = Operands(
        base.view(-1),
        tuple(experts[label].view(-1) for label in labels),
        lambda expert, first, count: uniforms(seed, labels[expert], "t", first, count),
    )
    span = get(method).plan(operands, Settings(values, _options(method, **options)))
    size = operands.size
    step = block or size
    return torch.cat([span(first, min(first + step, size)) for first in range(0, size, step)])


def _variants() -> list[Any]:
    variants = []
    for method in METHODS:
        choices: list[dict[str, Any]] = [{}, {"normalize": True}, {"normalize": False}]
        if method != "linear":
            choices.append({"lambda": 0.6})
        if method in STOCHASTIC:
            choices.append({"rescale": "l1"})
        variants += [pytest.param(method, options, id=f"{method}-{options}") for options in choices]
    return variants


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("method", "options"), _variants())
def test_equals_the_reference(method: str, options: dict[str, Any], dtype: torch.dtype) -> None:
    base, experts = _tensors(dtype=dtype)
    weights, rates = {"code": 0.7, "math": 0.4, "prose": -0.2}, {"code": 0.5, "math": 0.9, "prose": 0.1}
    merged = _merge(method, base, experts, weights, rates, **options)
    assert merged.dtype == torch.float32
    expected = reference(method, base, experts, weights, rates, _options(method, **options))
    np.testing.assert_allclose(merged.double().numpy(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("drop_rate", [0.0, 0.25, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("method", ["ties", *STOCHASTIC])
def test_equals_the_reference_at_any_rate(method: str, drop_rate: float) -> None:
    base, experts = _tensors(700)
    weights, rates = dict.fromkeys(LABELS, 0.5), dict.fromkeys(LABELS, drop_rate)
    merged = _merge(method, base, experts, weights, rates)
    expected = reference(method, base, experts, weights, rates, _options(method))
    np.testing.assert_allclose(merged.double().numpy(), expected, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize(("method", "options"), _variants())
def test_has_the_same_bits_in_any_blocking(method: str, options: dict[str, Any]) -> None:
    base, experts = _tensors(5000, dtype=torch.bfloat16)
    weights, rates = {"code": 0.7, "math": 0.4, "prose": 1.2}, {"code": 0.5, "math": 0.9, "prose": 0.1}
    whole = _merge(method, base, experts, weights, rates, **options)
    for block in (1000, 1237):
        assert torch.equal(_merge(method, base, experts, weights, rates, block=block, **options), whole)


def test_task_arithmetic_rounds_every_step_by_itself() -> None:
    """Bit for bit, in numpy's float32, where nothing is fused."""
    base, experts = _tensors(dtype=torch.bfloat16)
    weights = {"code": 0.7, "math": 0.4, "prose": -0.2}
    total = None
    for label in sorted(experts):
        delta = experts[label].float().numpy() - base.float().numpy()
        term = delta * np.float32(weights[label])
        total = term if total is None else total + term
    expected = total * np.float32(0.9) + base.float().numpy()
    merged = _merge("task_arithmetic", base, experts, weights, **{"lambda": 0.9}).numpy()
    assert np.array_equal(merged.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(("sparse", "plain"), [("dare_linear", "task_arithmetic"), ("dare_ties", "ties")])
@given(weights=st.tuples(*[st.floats(-2, 2, width=32)] * 3))
@settings(max_examples=20)
def test_nothing_dropped_is_the_plain_method(sparse: str, plain: str, weights: tuple[float, ...]) -> None:
    base, experts = _tensors(200)
    by_label = dict(zip(LABELS, weights, strict=True))
    a = _merge(sparse, base, experts, by_label, normalize=False)
    b = _merge(plain, base, experts, by_label, normalize=False)
    assert torch.equal(a.view(torch.int32), b.view(torch.int32))


@pytest.mark.parametrize("method", ["ties", *STOCHASTIC])
def test_everything_dropped_is_the_base(method: str) -> None:
    base, experts = _tensors(500)
    merged = _merge(method, base, experts, dict.fromkeys(LABELS, 0.8), dict.fromkeys(LABELS, 1.0))
    assert torch.equal(merged, base)


@pytest.mark.parametrize("method", METHODS)
def test_one_expert_at_weight_one_is_that_expert(method: str) -> None:
    base, experts = _tensors(500, dtype=torch.bfloat16)
    only = {"math": experts["math"]}
    # rounded to bfloat16, as the expert was
    assert torch.equal(_merge(method, base, only, {"math": 1.0}).bfloat16(), experts["math"])


@pytest.mark.parametrize("method", METHODS)
@given(st.permutations(LABELS))
@settings(max_examples=6)
def test_the_order_in_which_experts_are_named_is_nothing(method: str, order: list[str]) -> None:
    base, experts = _tensors(300)
    weights, rates = {"code": 0.7, "math": 0.4, "prose": 1.2}, {"code": 0.5, "math": 0.9, "prose": 0.1}
    merged = _merge(method, base, {label: experts[label] for label in order}, weights, rates)
    assert torch.equal(merged, _merge(method, base, experts, weights, rates))


@given(a=st.floats(0, 1), b=st.floats(0, 1))
@settings(max_examples=25)
def test_what_dare_keeps_is_nested(a: float, b: float) -> None:
    base, experts = _tensors(1000)
    only = {"math": experts["math"]}
    changed = [
        _merge("dare_linear", torch.zeros_like(base), only, {"math": 1.0}, {"math": rate}) != 0
        for rate in (min(a, b), max(a, b))
    ]
    assert not (changed[1] & ~changed[0]).any()


def test_dare_keeps_the_mean_over_masks() -> None:
    base, experts = _tensors(64)
    masks = 3000
    merged = sum(
        _merge("dare_linear", base, {"math": experts["math"]}, {"math": 1.0}, {"math": 0.7}, seed=seed).double()
        for seed in range(masks)
    )
    delta = (experts["math"] - base).double()
    spread = delta.abs() * (0.7 / 0.3 / masks) ** 0.5
    assert ((merged / masks - experts["math"].double()).abs() < 5 * spread + 1e-6).all()


def test_l1_restores_the_norm() -> None:
    _, experts = _tensors(3000)
    zero = torch.zeros(3000)
    only = {"math": experts["math"]}
    merged = _merge("dare_linear", zero, only, {"math": 1.0}, {"math": 0.9}, rescale="l1")
    assert float((merged != 0).float().mean()) == pytest.approx(0.1, abs=0.03)
    assert float(merged.abs().double().sum()) == pytest.approx(float(experts["math"].abs().double().sum()), rel=1e-6)


def test_ties_keeps_all_that_tie() -> None:
    delta = torch.tensor([4.0, -3.0, 3.0, 3.0, 1.0, 0.0])
    merged = _merge("ties", torch.zeros(6), {"math": delta}, {"math": 1.0}, {"math": 0.5}, normalize=False)
    assert merged.tolist() == [4.0, -3.0, 3.0, 3.0, 0.0, 0.0]


def test_ties_elects_signs_by_weighted_sums_with_ties_to_plus() -> None:
    base = torch.zeros(4)
    experts = {"a": torch.tensor([1.0, 1.0, 2.0, 0.0]), "b": torch.tensor([-3.0, -1.0, 1.0, -1.0])}
    # weighted: [1, 1, 2, 0] and [-3, -1, 1, -1]: minus, a tie, both, the only one
    assert _merge("ties", base, experts, {"a": 1.0, "b": 1.0}).tolist() == [-3.0, 1.0, 1.5, -1.0]
    # the weights turn the first election: 4 against -3; the divisor is the weight of those that were kept
    assert _merge("ties", base, experts, {"a": 4.0, "b": 1.0}).tolist() == pytest.approx([1.0, 1.0, 1.8, -1.0])
    assert _merge("ties", base, experts, {"a": 1.0, "b": 1.0}, normalize=False).tolist() == [-3.0, 1.0, 3.0, -1.0]


@pytest.mark.parametrize(("drop_rate", "kept"), [(0.9, 100), (0.7, 300), (0.9999, 1), (0.333, 667)])
def test_ties_keeps_as_many_as_the_density_says(drop_rate: float, kept: int) -> None:
    delta = torch.arange(1.0, 1001.0)
    merged = _merge("ties", torch.zeros(1000), {"math": delta}, {"math": 1.0}, {"math": drop_rate})
    assert int((merged != 0).sum()) == kept


def test_density_has_no_noise() -> None:
    assert density(0.9) == 0.1
    assert density(0.0) == 1.0
    assert density(1.0) == 0.0
