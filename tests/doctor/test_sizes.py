"""Sizes against norms by hand, and in a search space."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from evomerge.checkpoints import ModelPool
from evomerge.doctor import deltas, measure_sizes
from evomerge.merging import METHODS, parameter_defaults
from evomerge.recipes import SearchSpace
from tests.checkpoints.adapters import write_adapter
from tests.doctor.models import write_changed


def opened(base: Path, **experts: Path) -> ModelPool:
    return ModelPool.open(str(base), {label: str(path) for label, path in experts.items()})


def test_squared_norms_by_group(base: Path, math: Path, code: Path) -> None:
    measured = measure_sizes(opened(base, math=math, code=code))
    start, change = load_file(base / "model.safetensors"), load_file(math / "model.safetensors")

    def squared(words: str) -> float:
        names = [name for name in start if words in name]
        return sum(float((change[n].float() - start[n].float()).double().square().sum()) for n in names)

    norms = measured.squared_norms["math"]
    assert set(measured.squared_norms) == {"code", "math"}
    for group, words in (("embeddings", "embed"), ("head", "lm_head"), ("layers.1.mlp", "layers.1.mlp")):
        assert norms[group] == pytest.approx(squared(words), rel=1e-12)
    assert sum(norms.values()) == pytest.approx(squared(""), rel=1e-12)
    assert measured.drop_rate_limits == {}, "narrow task vectors have no limit"


def test_a_wide_task_vector_has_a_limit(base: Path, math: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    far = write_changed(base, tmp_path / "far", lambda n, w: w + 0.02 * torch.randn(w.shape, generator=generator))
    limits = measure_sizes(opened(base, far=far, math=math)).drop_rate_limits
    start, change = load_file(base / "model.safetensors"), load_file(far / "model.safetensors")
    above, below = (
        sum(float(tensor.double().square().sum()) for tensor in tensors)
        for tensors in ([change[n].float() - start[n].float() for n in start], [w.float() for w in start.values()])
    )
    assert list(limits) == ["far"]
    p, relative = limits["far"], (above / below) ** 0.5
    assert (p / (1 - p)) ** 0.5 * relative == pytest.approx(0.1), "DARE's noise is a tenth of the base"


def test_what_an_adapter_leaves_alone_has_no_importance(base: Path, math: Path, tmp_path: Path) -> None:
    write_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "up_proj"])
    pool = opened(base, lora=tmp_path / "adapter", math=math)
    space = SearchSpace(
        base="b",
        experts={"lora": "l", "math": "m"},
        layout=pool.layout,
        config={
            "methods": ["task_arithmetic"],
            "granularity": "layer",
            "own": ["embeddings", "head"],
            "parameters": {"weight": {"low": 0.0, "high": 1.0}},
        },
        method_parameters={name: parameter_defaults(name) for name in METHODS},
        squared_norms=measure_sizes(pool).squared_norms,
    )
    found = {dimension.name: dimension.importance for dimension in space.dimensions}
    for group in ("embeddings", "head", "all"):
        assert found[f"weight.lora.{group}"] == 0.0
        assert found[f"weight.math.{group}"] > 0.0
    assert found["weight.lora.layers.0"] == pytest.approx(2.5, rel=0.3)


def test_only_a_sample_of_large_tensors_is_read(
    base: Path, math: Path, code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = opened(base, math=math, code=code)
    whole = measure_sizes(pool).squared_norms["math"]
    monkeypatch.setattr(deltas, "SAMPLE_SPANS", 8)
    monkeypatch.setattr(deltas, "SAMPLE_LENGTH", 1 << 5)
    read: list[int] = []
    sources = [pool.source("", name) for name in pool.layout.tensors]
    kind = type(sources[0])
    original = kind.read

    def counted(self: object, first: int, last: int) -> torch.Tensor:
        read.append(last - first)
        return original(self, first, last)  # type: ignore[arg-type]

    monkeypatch.setattr(kind, "read", counted)
    sample = measure_sizes(pool).squared_norms["math"]
    assert sum(read) <= 3 * 256 * len(sources), "of three models"
    assert sample == pytest.approx(whole, rel=0.35)
