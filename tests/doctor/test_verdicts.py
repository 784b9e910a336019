"""Each verdict on real weights that deserve it, and on weights that just do not."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.doctor.deltas import Part
from evomerge.doctor.verdicts import safe_drop_rate
from tests.doctor.models import codes, examine, found, write_changed, write_expert

Change = Callable[[str, torch.Tensor], torch.Tensor]


def noise(size: float, *, seed: int = 3, only: str = "") -> Change:
    generator = torch.Generator().manual_seed(seed)
    return lambda name, w: w + size * torch.randn(w.shape, generator=generator) if only in name else w


def norm_of(w: torch.Tensor) -> float:
    return float(w.square().mean().sqrt())


@pytest.fixture
def wide(base: Path, tmp_path: Path) -> Path:
    """A base of weights that are large enough for task vectors of any size to be near it."""
    return write_changed(base, tmp_path / "wide", lambda name, w: 20 * w)


def test_damaged_weights(base: Path, math: Path, tmp_path: Path) -> None:
    def spoil(name: str, w: torch.Tensor) -> torch.Tensor:
        return w.index_fill(0, torch.tensor([0]), float("nan")) if name == "model.norm.weight" else w

    damaged = write_changed(math, tmp_path / "damaged", spoil)
    diagnosis = examine(base, damaged, math)
    finding = found("not-finite", diagnosis)
    assert (finding.severity, finding.models) == ("stop", ("damaged",))
    assert "1 weights are NaN or infinite, in model.norm.weight" in finding.text
    assert found("not-finite", examine(damaged, math)).models == ("base",)


def test_an_expert_that_is_the_base(base: Path, math: Path, tmp_path: Path) -> None:
    diagnosis = examine(base, shutil.copytree(base, tmp_path / "copy"), math)
    assert found("identical-to-base", diagnosis).models == ("copy",)
    assert codes(diagnosis) == {"identical-to-base"}
    assert diagnosis.merges


def test_one_changed_weight_is_a_change(base: Path, tmp_path: Path) -> None:
    def nudge(name: str, w: torch.Tensor) -> torch.Tensor:
        if name == "model.norm.weight":
            w[0] += 1
        return w

    diagnosis = examine(base, write_changed(base, tmp_path / "nudged", nudge))
    assert "identical-to-base" not in codes(diagnosis)
    assert found("sparse", diagnosis).severity == "note"


def test_two_experts_that_are_the_same(base: Path, math: Path, tmp_path: Path) -> None:
    diagnosis = examine(base, math, shutil.copytree(math, tmp_path / "again"))
    assert found("identical", diagnosis).models == ("again", "math")
    assert "collinear" not in codes(diagnosis)


@pytest.mark.parametrize(("cosine", "code"), [(0.99, "collinear"), (0.8, None), (-0.05, None), (-0.3, "opposite")])
def test_angles(base: Path, tmp_path: Path, cosine: float, code: str | None) -> None:
    float32 = shutil.copytree(base, tmp_path / "float32")
    tensors = {name: w.float() for name, w in load_file(base / "model.safetensors").items()}
    save_file(tensors, float32 / "model.safetensors", metadata={"format": "pt"})
    generator = torch.Generator().manual_seed(1)
    one, two = ({name: torch.randn(w.shape, generator=generator) for name, w in tensors.items()} for _ in range(2))
    sine = (1 - cosine**2) ** 0.5
    first = write_changed(float32, tmp_path / "a", lambda name, w: w + 1e-3 * one[name])
    second = write_changed(float32, tmp_path / "b", lambda name, w: w + 1e-3 * (cosine * one[name] + sine * two[name]))
    diagnosis = examine(float32, first, second)
    assert codes(diagnosis) == ({code} if code else set())
    if code:
        assert found(code, diagnosis).models == ("a", "b")


def test_the_same_direction_with_another_length_is_collinear(base: Path, tmp_path: Path) -> None:
    float32 = shutil.copytree(base, tmp_path / "float32")
    tensors = {name: w.float() for name, w in load_file(base / "model.safetensors").items()}
    save_file(tensors, float32 / "model.safetensors", metadata={"format": "pt"})
    first, second = (write_changed(float32, tmp_path / name, noise(size)) for name, size in (("a", 1e-3), ("b", 2e-3)))
    assert codes(examine(float32, first, second)) == {"collinear"}


def test_a_model_that_was_trained_apart(base: Path, math: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(9)
    other = write_changed(
        base, tmp_path / "other", lambda name, w: norm_of(w) * torch.randn(w.shape, generator=generator)
    )
    diagnosis = examine(base, other, math)
    finding = found("unrelated", diagnosis)
    assert (finding.severity, finding.models) == ("stop", ("other",))
    assert "1.41" in finding.text
    assert codes(diagnosis) == {"unrelated"}, "no more is said about it"


@pytest.mark.parametrize(("relative", "far"), [(0.1, False), (0.2, True)])
def test_a_model_that_went_far(base: Path, tmp_path: Path, relative: float, far: bool) -> None:
    expert = write_changed(base, tmp_path / "x", lambda name, w: w + relative * norm_of(w) * torch.randn_like(w))
    diagnosis = examine(base, expert)
    assert ("far" in codes(diagnosis)) is far
    assert "unrelated" not in codes(diagnosis)


@pytest.mark.parametrize(
    ("size", "severity"),
    [(0.002, None), (0.004, "note"), (0.01, "warning")],
)
def test_wide_task_vectors(wide: Path, tmp_path: Path, size: float, severity: str | None) -> None:
    float32 = shutil.copytree(wide, tmp_path / "float32")
    tensors = {name: w.float() for name, w in load_file(wide / "model.safetensors").items()}
    save_file(tensors, float32 / "model.safetensors", metadata={"format": "pt"})
    diagnosis = examine(float32, write_changed(float32, tmp_path / "x", noise(size)))
    assert codes(diagnosis) == ({"wide"} if severity else set())
    if severity:
        assert found("wide", diagnosis).severity == severity
        assert "2311.03099" in found("wide", diagnosis).text


def test_embeddings_that_went_alone(base: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)

    def embeddings(share: float) -> Change:
        return lambda name, w: (
            w + 0.001 * torch.randn(w.shape, generator=generator) * (share if "embed" in name or "head" in name else 1)
        )

    assert "embeddings" not in codes(examine(base, write_changed(base, tmp_path / "even", embeddings(3))))
    finding = found("embeddings", examine(base, write_changed(base, tmp_path / "tokens", embeddings(20))))
    assert finding.severity == "warning"


def test_frozen_layers(base: Path, math: Path, tmp_path: Path) -> None:
    frozen = write_changed(base, tmp_path / "frozen", noise(0.001, only="mlp"))
    diagnosis = examine(base, frozen, math)
    assert found("untouched", diagnosis).models == ("frozen",)
    for kind in ("embeddings", "attention", "norms", "head"):
        assert kind in found("untouched", diagnosis).text


def test_a_sample_says_that_it_is_one(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from evomerge.doctor import deltas

    monkeypatch.setattr(deltas, "SAMPLE_SPANS", 2)
    monkeypatch.setattr(deltas, "SAMPLE_LENGTH", 16)
    diagnosis = examine(base, shutil.copytree(base, tmp_path / "copy"), quick=True)
    assert "that were read" in found("identical-to-base", diagnosis).text


def test_the_drop_rate_at_which_noise_is_a_tenth_of_the_base() -> None:
    def part(relative: float) -> Part:
        return Part(1, 1.0, relative, 0.0, None, 0.0, 0.0)  # type: ignore[arg-type]

    for relative in (0.01, 0.1, 1.0):
        p = safe_drop_rate(part(relative))
        assert relative * (p / (1 - p)) ** 0.5 == pytest.approx(0.1)
    assert safe_drop_rate(part(0.0)) == 1


def test_experts_far_from_each_other_are_no_finding(base: Path, tmp_path: Path) -> None:
    experts = [write_expert(base, tmp_path / str(seed), seed=seed) for seed in (4, 5, 6)]
    assert examine(base, *experts).findings == ()
