"""Every method against its float64 reference, and the laws that hold for all of them, whatever the numbers.

A new method needs a reference in references.py and its entry in `VARIANTS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evomerge.errors import UsageError
from evomerge.merging.methods import METHODS, WeightedSum, get, parameter_defaults
from tests.merging.methods.references import REFERENCES, Case
from tests.merging.methods.support import NAME, operands_of, run, settings_of

LABELS = ("code", "math", "prose")
EMBEDDINGS = "model.embed_tokens.weight"
WEIGHTS = {"code": 0.75, "math": 0.4, "prose": -0.25}
RATES = {"code": 0.5, "math": 0.9, "prose": 0.1}
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Variant:
    """A method with parameters: each a value, or one an expert."""

    method: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    experts: int = 3
    name: str = NAME

    def __str__(self) -> str:
        values = [*self.parameters.items(), *self.options.items()]
        return f"{self.method}-{self.experts}-" + "-".join(str(value) for name, value in values if name != "weight")


def _sums(method: str, parameters: Mapping[str, Any], *options: Mapping[str, Any]) -> list[Variant]:
    values = {"weight": WEIGHTS, **parameters}
    several = [
        Variant(method, values, o) for o in ({}, {"normalize": True}, {"normalize": False, "lambda": 0.6}, *options)
    ]
    return [*several, Variant(method, {**values, "weight": 0.8}, experts=1)]


_ELECT = {"elect": "unweighted", "normalize": True}
VARIANTS: tuple[Variant, ...] = (
    Variant("linear", {"weight": WEIGHTS}),
    Variant("linear", {"weight": WEIGHTS}, {"normalize": False}),
    *_sums("task_arithmetic", {}),
    *_sums("dare_linear", {"drop_rate": RATES}, {"rescale": "l1"}),
    *_sums("dare_ties", {"drop_rate": RATES}, {"rescale": "l1"}, _ELECT),
    *_sums("ties", {"drop_rate": RATES}, _ELECT, {"trim": "model"}),
    *_sums("breadcrumbs", {"drop_rate": RATES}),
    *_sums("breadcrumbs", {"drop_rate": RATES, "gamma": 0.3}),
    *_sums("breadcrumbs_ties", {"drop_rate": RATES, "gamma": 0.1}, _ELECT),
    *_sums("della", {"drop_rate": RATES}, {"rescale": "inv_keep"}, _ELECT),
    *_sums("della_linear", {"drop_rate": RATES, "epsilon": 0.4}, {"rescale": "inv_keep"}),
    *(Variant("slerp", {}, {"t": t}, experts=k) for t in (0.0, 0.3, 1.0) for k in (1, 2)),
    *(
        Variant(
            "nuslerp",
            {"weight": {"code": 0.6, "math": 0.3}},
            {"nuslerp_flatten": f, "nuslerp_row_wise": r, "task_vectors": v},
            2,
        )
        for f, r, v in (
            (True, False, True),
            (True, False, False),
            (False, False, True),
            (False, True, True),
            (False, True, False),
        )
    ),
    Variant("nuslerp", {"weight": {"code": 0.5, "math": -0.5}}, experts=2),
    *(
        Variant("multislerp", {"weight": WEIGHTS}, {"task_vectors": v, "normalize_weights": n}, k)
        for v, n, k in ((False, True, 3), (True, True, 3), (True, False, 2), (False, False, 1))
    ),
    Variant("karcher"),
    Variant("karcher", {}, {"max_iter": 1.0}),
    Variant("karcher", experts=1),
    *(Variant("model_stock", {}, {"filter_wise": f}, k) for f in (False, True) for k in (2, 3)),
    *(Variant("sce", {}, {"select_topk": s, "floor": f}) for s in (1.0, 0.3, 0.0) for f in (1e-6, 0.0)),
    Variant("sce", experts=1),
    Variant("ram"),
    Variant("ram", {}, {"epsilon": 0.02}),
    Variant("ramplus_tl", {}, {"epsilon": 0.02, "r": 0.5, "alpha": 0.7}),
    Variant("pcb"),
    Variant("pcb", {"weight": WEIGHTS, "drop_rate": {"code": 0.0, "math": 1.0, "prose": 0.5}}),
    Variant("pcb", experts=1),
    Variant("consensus", {"weight": WEIGHTS}),
    *(
        Variant("consensus", {"weight": 1.0}, {"tall_lambda": t, "k": k, "lambda": 0.5})
        for t, k in ((0.2, 3.0), (1.5, 1.0), (0.4, 0.0))
    ),
    Variant("widen"),
    Variant("widen", name=EMBEDDINGS),
    Variant("widen", {}, {"ratio": 1.5, "score": 0.7}, 2),
    *(
        Variant("metrics_weighted", {"metric": {"code": 1.5, "math": 0.7, "prose": 2.0}}, {"power": p, "better": b})
        for p, b in ((1.0, "smaller"), (2.5, "larger"), (0.0, "smaller"))
    ),
    Variant("passthrough", experts=1),
    Variant("passthrough", {}, {"scale": 0.7}, experts=1),
)
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def _tensors(
    shape: tuple[int, ...],
    count: int,
    seed: int,
    dtypes: tuple[torch.dtype, ...] = (torch.float32,),
    spread: float = 0.02,
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """A base and experts, whose dtypes go round."""
    rng = np.random.default_rng(seed)

    def normal(scale: float) -> torch.Tensor:
        return torch.from_numpy(np.asarray(rng.normal(0, scale, shape), dtype=np.float32))

    base = normal(0.1)
    models = {
        label: (base + normal(spread)).to(dtypes[(i + 1) % len(dtypes)]) for i, label in enumerate(LABELS[:count])
    }
    return base.to(dtypes[0]), models


def _run(variant: Variant, base: torch.Tensor, experts: Mapping[str, torch.Tensor], **more: Any) -> torch.Tensor:
    return run(variant.method, base, experts, variant.parameters, variant.options, name=variant.name, **more)


def _reference(variant: Variant, base: torch.Tensor, experts: Mapping[str, torch.Tensor], seed: int = 0) -> np.ndarray:
    labels = sorted(experts)
    values = settings_of(variant.method, labels, variant.parameters, variant.options)
    models = [experts[label].double().numpy() for label in labels]
    case = Case(base.double().numpy(), models, labels, list(values.parameters), values.options, variant.name, seed)
    return np.asarray(REFERENCES[variant.method](case))


def _close(merged: torch.Tensor, expected: np.ndarray) -> None:
    scale = float(np.abs(expected).max(initial=0.0))
    np.testing.assert_allclose(merged.double().numpy(), expected, rtol=2e-6, atol=1e-6 * scale + 1e-30)


def test_every_method_is_tested() -> None:
    assert {variant.method for variant in VARIANTS} == set(METHODS) == set(REFERENCES)


@every_variant
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 300)),
        st.tuples(st.integers(1, 20), st.integers(1, 30)),
        st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9)),
        st.just(()),
    ),
    dtypes=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=3),
    spread=st.sampled_from([0.001, 0.02, 0.3]),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=6, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_equals_the_reference(
    variant: Variant, shape: tuple[int, ...], dtypes: list[torch.dtype], spread: float, seed: int
) -> None:
    base, experts = _tensors(shape, variant.experts, seed, tuple(dtypes), spread)
    merged = _run(variant, base, experts, seed=seed)
    assert merged.dtype == torch.float32
    assert merged.shape == base.shape
    _close(merged, _reference(variant, base, experts, seed))


@every_variant
def test_has_the_same_bits_in_any_blocking(variant: Variant) -> None:
    base, experts = _tensors((97, 51), variant.experts, 1, (torch.bfloat16,))
    whole = _run(variant, base, experts)
    for cuts in ((1000, 2000, 3000), (8, 48, 4944), tuple(range(64, 4947, 64))):
        assert torch.equal(_run(variant, base, experts, cuts=cuts).view(torch.int32), whole.view(torch.int32))


@every_variant
def test_has_the_same_bits_with_tables_and_ranks_kept(variant: Variant) -> None:
    base, experts = _tensors((40, 30), variant.experts, 2, (torch.bfloat16,))
    kept = _run(variant, base, experts, cache_bytes=1 << 30)
    assert torch.equal(kept.view(torch.int32), _run(variant, base, experts).view(torch.int32))


@every_variant
def test_the_order_in_which_experts_are_named_is_nothing(variant: Variant) -> None:
    base, experts = _tensors((20, 15), variant.experts, 3)
    expected = _run(variant, base, experts)
    for order in permutations(experts):
        assert torch.equal(_run(variant, base, {label: experts[label] for label in order}), expected)


@every_variant
def test_nothing_to_merge_is_nothing(variant: Variant) -> None:
    for shape in ((0,), (0, 5), (5, 0), (2, 0, 3)):
        base, experts = _tensors(shape, variant.experts, 0)
        assert _run(variant, base, experts).shape == shape


def _degenerate() -> dict[str, tuple[torch.Tensor, list[torch.Tensor]]]:
    x = torch.from_numpy(np.random.default_rng(5).normal(0, 0.1, (6, 8)).astype(np.float32))
    y = torch.from_numpy(np.random.default_rng(6).normal(0, 0.1, (6, 8)).astype(np.float32))
    zero, one = torch.zeros(6, 8), torch.ones(6, 8)
    row = x.clone()
    row[2] = 0.0
    row[:, 3] = 0.0
    return {
        "all zero": (zero, [zero, zero, zero]),
        "all equal": (x, [x, x, x]),
        "experts equal": (x, [y, y, y]),
        "one expert is the base": (x, [x, y, x + y]),
        "base zero": (zero, [x, y, zero]),
        "opposite": (zero, [x, -x, x]),
        "opposite task vectors": (y, [y + one, y - one, y]),
        "parallel": (zero, [x, 2 * x, 4 * x]),
        "constant": (one, [2 * one, 3 * one, one]),
        "zero rows and columns": (row, [row, x, 2 * row]),
        "one element": (x[:1, :1], [y[:1, :1], x[:1, :1], zero[:1, :1]]),
        "a vector": (x[0], [y[0], zero[0], -x[0]]),
        "tiny": (1e-38 * x, [1e-38 * y, 1e-30 * x, 1e-44 * y]),
        "large": (1e18 * x, [1e18 * y, -1e18 * y, 1e18 * x]),
        "huge": (1e30 * x, [1e30 * y, 1e15 * y, 1e-30 * x]),
    }


@every_variant
def test_nan_is_never_created(variant: Variant) -> None:
    for case, (base, models) in _degenerate().items():
        experts = dict(zip(LABELS, models[: variant.experts], strict=False))
        merged = _run(variant, base, experts)  # raises for NaN and infinity
        largest = max(float(x.abs().max()) for x in (base, *experts.values()))
        assert float(merged.abs().max()) <= 40 * largest, case


@pytest.mark.parametrize(
    "method", ["task_arithmetic", "dare_linear", "dare_ties", "ties", "breadcrumbs", "della_linear"]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_nothing_dropped_and_weight_one_is_the_expert(method: str, dtype: torch.dtype) -> None:
    base, experts = _tensors((30, 9), 1, 7, (dtype,))
    # rounded to the dtype, as the expert was; in float32 the base is subtracted and added again
    merged = run(method, base, experts, {"weight": 1.0}).to(dtype)
    tolerance = 1e-6 if dtype == torch.float32 else 0.0
    assert torch.allclose(merged.float(), experts["code"].float(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", sorted(m for m, found in METHODS.items() if "drop_rate" in parameter_defaults(m)))
def test_everything_dropped_is_the_base(method: str) -> None:
    base, experts = _tensors((30, 9), 3, 8)
    merged = run(method, base, experts, {"weight": 0.8, "drop_rate": 1.0})
    assert torch.equal(merged, base)


@pytest.mark.parametrize(
    ("sparse", "plain"),
    [
        ("dare_linear", "task_arithmetic"),
        ("dare_ties", "ties"),
        ("breadcrumbs", "task_arithmetic"),
        ("breadcrumbs_ties", "ties"),
        ("della_linear", "task_arithmetic"),
        ("della", "ties"),
    ],
)
@given(weights=st.tuples(*[st.floats(-2, 2, width=32)] * 3), seed=st.integers(0, 1000))
@settings(max_examples=20, derandomize=True, deadline=None)
def test_nothing_dropped_is_the_plain_method(sparse: str, plain: str, weights: tuple[float, ...], seed: int) -> None:
    base, experts = _tensors((13, 11), 3, seed)
    by_label = {"weight": dict(zip(LABELS, weights, strict=True))}
    merged = [run(method, base, experts, by_label, {"normalize": False}) for method in (sparse, plain)]
    assert torch.equal(merged[0].view(torch.int32), merged[1].view(torch.int32))


@pytest.mark.parametrize("variant", [v for v in VARIANTS if get(v.method).stochastic], ids=str)
def test_masks_change_with_the_seed(variant: Variant) -> None:
    base, experts = _tensors((97, 51), variant.experts, 1)
    assert not torch.equal(_run(variant, base, experts, seed=0), _run(variant, base, experts, seed=1))


@pytest.mark.parametrize(
    "variant", [v for v in VARIANTS if v.method in ("slerp", "karcher", "multislerp", "passthrough", "linear")], ids=str
)
def test_linear_combinations_cost_what_linear_costs(variant: Variant) -> None:
    base, experts = _tensors((4, 5), variant.experts, 0)
    operands = operands_of(base, experts)
    values = settings_of(variant.method, operands.labels, variant.parameters, variant.options)
    assert isinstance(get(variant.method).plan(operands, values), WeightedSum)


@pytest.mark.parametrize(
    ("method", "parameters", "options", "reason"),
    [
        ("linear", {"weight": {"code": 1.0, "math": -1.0}}, {}, "sum to zero"),
        ("multislerp", {"weight": {"code": 1.0, "math": -1.0}}, {}, "sum to zero"),
        ("consensus", {"weight": 1.0}, {"k": 3.0}, "lower k"),
        ("metrics_weighted", {"metric": {"code": 1.0, "math": 0.0}}, {}, "above 0"),
    ],
)
def test_refuses_what_cannot_go_together(method: str, parameters: Any, options: Any, reason: str) -> None:
    values = settings_of(method, ("code", "math"), parameters, options)
    assert reason in str(get(method).refusal(values))


def test_unknown_method_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="dare_linear"):
        get("dare_liner")
