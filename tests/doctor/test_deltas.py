"""The numbers against numpy in float64, and what they must not depend on."""

import math as maths
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from evomerge.checkpoints import Checkpoint
from evomerge.checkpoints.rows import MemorySource
from evomerge.doctor import deltas
from evomerge.doctor.deltas import KINDS, QUANTILES, Deltas, TensorPair, kind_name, measure
from evomerge.recipes.groups import OUTSIDE, PARTS
from evomerge.zoo import model_path
from tests.doctor.models import write_changed


def pairs_of(ancestor: Path, **experts: Path) -> list[TensorPair]:
    opened = {label: Checkpoint.open(path) for label, path in experts.items()}
    root = Checkpoint.open(ancestor)
    return [
        TensorPair(name, root.source(name), {label: model.source(name) for label, model in opened.items()})
        for name in root.names
    ]


def vectors(base: Path, expert: Path, words: str = "") -> tuple[np.ndarray, np.ndarray]:
    """Base and task vector of the tensors with `words` in their names, in float64."""
    one, two = load_file(base / "model.safetensors"), load_file(expert / "model.safetensors")
    names = [name for name in sorted(one) if words in name]
    start = np.concatenate([one[name].double().numpy().ravel() for name in names])
    # The difference as the merge takes it: in float32.
    change = np.concatenate([(two[name].float() - one[name].float()).double().numpy().ravel() for name in names])
    return start, change


def same(one: Deltas, two: Deltas) -> bool:
    def numbers(measured: Deltas) -> list[object]:
        parts = [
            (p.parameters, p.base_norm, p.delta_norm, p.dot, p.zeros, p.largest, p.counts.tolist())
            for delta in measured.experts.values()
            for p in (delta.whole, *delta.kinds.values(), *delta.groups.values())
        ]
        return [parts, measured.cosines, measured.sampled]

    return numbers(one) == numbers(two)


def test_the_zoo_against_numpy() -> None:
    base, math, code = map(model_path, ("base", "math", "code"))
    measured = measure(pairs_of(base, code=code, math=math), threads=2)
    changes = {}
    for label, path in (("math", math), ("code", code)):
        start, change = vectors(base, path)
        changes[label] = change
        whole = measured.experts[label].whole
        assert whole.parameters == change.size
        assert whole.delta_norm == pytest.approx(np.linalg.norm(change), rel=1e-12)
        assert whole.base_norm == pytest.approx(np.linalg.norm(start), rel=1e-12)
        assert whole.relative_norm == pytest.approx(np.linalg.norm(change) / np.linalg.norm(start), rel=1e-12)
        own = start + change
        assert whole.cosine == pytest.approx(start @ own / np.linalg.norm(start) / np.linalg.norm(own), rel=1e-12)
        assert whole.zeros == (change == 0).sum()
        assert whole.largest == np.abs(change).max()
        for q in QUANTILES:
            assert whole.quantile(q) == pytest.approx(
                np.quantile(np.abs(change), q, method="inverted_cdf"), rel=0.004, abs=1e-30
            )
        assert whole.share_above(0.01) == pytest.approx((np.abs(change) > 0.01).mean(), abs=0.002)
        start, change = vectors(base, path, "mlp")
        assert measured.experts[label].kinds["mlp"].delta_norm == pytest.approx(np.linalg.norm(change), rel=1e-12)
        start, change = vectors(base, path, "layers.3.mlp")
        part = measured.experts[label].groups["layers.3.mlp"]
        assert part.relative_norm == pytest.approx(np.linalg.norm(change) / np.linalg.norm(start), rel=1e-12)
    one, two = changes["code"], changes["math"]
    cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
    assert measured.cosines == {("code", "math"): pytest.approx(cosine, rel=1e-10)}


def test_numbers_do_not_depend_on_threads() -> None:
    base, math, code = map(model_path, ("base", "math", "code"))
    pairs = pairs_of(base, math=math, code=code)
    once = measure(pairs, threads=1)
    assert same(once, measure(pairs, threads=3))
    assert same(once, measure(list(pairs), threads=2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_dtypes_may_be_mixed(base: Path, math: Path, dtype: torch.dtype) -> None:
    def pairs(change: torch.dtype) -> list[TensorPair]:
        one, two = load_file(base / "model.safetensors"), load_file(math / "model.safetensors")
        return [TensorPair(name, MemorySource(one[name]), {"x": MemorySource(two[name].to(change))}) for name in one]

    # bfloat16 values of this size are float16 and float32 values too, but for the smallest.
    expected = measure(pairs(torch.bfloat16), threads=1).experts["x"].whole
    measured = measure(pairs(dtype), threads=1).experts["x"].whole
    assert measured.delta_norm == pytest.approx(expected.delta_norm, rel=1e-5)


def test_a_sample_is_near_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deltas, "SAMPLE_SPANS", 8)
    monkeypatch.setattr(deltas, "SAMPLE_LENGTH", 1 << 9)
    base, math, code = map(model_path, ("base", "math", "code"))
    pairs = pairs_of(base, math=math, code=code)
    whole, sample = measure(pairs, threads=1), measure(pairs, threads=1, quick=True)
    assert whole.sampled == 1
    assert 0.05 < sample.sampled < 0.3
    for label in ("math", "code"):
        one, two = whole.experts[label].whole, sample.experts[label].whole
        assert two.parameters == one.parameters
        assert two.counts.sum() == pytest.approx(one.parameters)
        assert two.zero_share == pytest.approx(one.zero_share, rel=0.1)
        assert two.relative_norm == pytest.approx(one.relative_norm, rel=0.1)
        assert two.quantile(0.9) == pytest.approx(one.quantile(0.9), rel=0.1)
    assert same(sample, measure(pairs, threads=3, quick=True))


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 4095, 4097])
def test_odd_sizes(size: int) -> None:
    generator = torch.Generator().manual_seed(size)
    start, change, other = torch.randn(3, size, generator=generator)
    experts = {"x": MemorySource(start + change), "y": MemorySource(start + other)}
    measured = measure([TensorPair("model.norm.weight", MemorySource(start), experts)], threads=1)
    part = measured.experts["x"].whole
    exact, second = (((start + move) - start).double().numpy() for move in (change, other))
    if size:
        cosine = exact @ second / np.linalg.norm(exact) / np.linalg.norm(second)
        assert measured.cosines["x", "y"] == pytest.approx(cosine, rel=1e-9)
    assert part.delta_norm == pytest.approx(np.linalg.norm(exact), rel=1e-12)
    assert part.dot == pytest.approx(exact @ start.double().numpy(), rel=1e-9)
    assert part.counts.sum() == part.parameters == size


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch, base: Path, math: Path, code: Path) -> None:
    pairs = pairs_of(base, math=math, code=code)
    whole = measure(pairs, threads=1)
    monkeypatch.setattr(deltas, "BLOCK", 100)
    pieces = measure(pairs, threads=2)
    for label in ("math", "code"):
        one, two = whole.experts[label].whole, pieces.experts[label].whole
        assert two.delta_norm == pytest.approx(one.delta_norm, rel=1e-13)
        assert two.counts.tolist() == one.counts.tolist()


def test_what_is_not_finite_is_counted_and_left_out(base: Path, math: Path, tmp_path: Path) -> None:
    name = "model.layers.0.mlp.up_proj.weight"

    def spoil(tensor: str, w: torch.Tensor) -> torch.Tensor:
        if tensor == name:
            w.view(-1)[:3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
        return w

    bad = write_changed(math, tmp_path / "bad", spoil)
    measured = measure(pairs_of(base, bad=bad, math=math), threads=1)
    assert measured.experts["bad"].not_finite == {name: 3}
    assert measured.experts["math"].not_finite == {}
    assert measured.base_not_finite == {}
    assert maths.isfinite(measured.experts["bad"].whole.delta_norm)
    swapped = measure(pairs_of(bad, base=base), threads=1)
    assert swapped.base_not_finite == {name: 3}
    assert swapped.experts["base"].not_finite == {}


def test_two_finite_numbers_too_far_apart_for_float32() -> None:
    pair = TensorPair("x", MemorySource(torch.tensor([3e38, 1.0])), {"e": MemorySource(torch.tensor([-3e38, 1.0]))})
    measured = measure([pair], threads=1)
    assert measured.experts["e"].not_finite == {"x": 1}
    assert measured.experts["e"].whole.delta_norm == 0


def test_groups() -> None:
    assert kind_name("model.layers.3.mlp.up_proj.weight") == "mlp"
    assert kind_name("model.embed_tokens.weight") == "embeddings"
    assert sorted(KINDS) == sorted((*PARTS, *OUTSIDE))
