"""A tiny family of which there is nothing to report, and ways to spoil a copy."""

import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from evomerge.doctor import Diagnosis, Finding, diagnose

Tensors = dict[str, torch.Tensor]


def write_expert(base: Path, to: Path, *, seed: int, size: float = 0.001) -> Path:
    """Write a fine-tune of a base: every weight moved by normal noise of a size."""
    generator = torch.Generator().manual_seed(seed)
    return write_changed(base, to, lambda name, w: w + size * torch.randn(w.shape, generator=generator))


def write_changed(base: Path, to: Path, change: Callable[[str, torch.Tensor], torch.Tensor | None]) -> Path:
    """Write a copy of a model with other weights: `change` gets name and float32 values; None leaves a tensor out."""
    shutil.copytree(base, to)
    tensors = load_file(base / "model.safetensors")
    made = {name: change(name, tensor.float()) for name, tensor in tensors.items()}
    kept = {name: tensor.to(tensors[name].dtype).contiguous() for name, tensor in made.items() if tensor is not None}
    save_file(kept, to / "model.safetensors", metadata={"format": "pt"})
    return to


def examine(*models: Path | str, quick: bool = False) -> Diagnosis:
    base, *experts = map(str, models)
    return diagnose(base, experts, quick=quick)


def found(code: str, diagnosis: Diagnosis) -> Finding:
    """The one finding of a kind."""
    (finding,) = [finding for finding in diagnosis.findings if finding.code == code]
    return finding


def codes(diagnosis: Diagnosis) -> set[str]:
    return {finding.code for finding in diagnosis.findings}
