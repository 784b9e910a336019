"""One merged tensor: the one pass that engine and export share, so that what is scored is what ships.

Merged span by span in float32, rounded once to the recipe's dtype, checked and fingerprinted while still in the cache.
This file knows nothing about files or live models.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from evomerge.errors import CandidateError
from evomerge.merging.fingerprint import bit_words, combine, fingerprint
from evomerge.merging.mask import Uniforms
from evomerge.merging.methods import BLOCK, Operands, Settings, get
from evomerge.merging.settings import settings
from evomerge.recipes import Recipe

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# All bits of the exponent: a word that has them all set is infinite or NaN.
_EXPONENT: Mapping[torch.dtype, np.unsignedinteger[Any]] = {
    torch.bfloat16: np.uint16(0x7F80),
    torch.float16: np.uint16(0x7C00),
    torch.float32: np.uint32(0x7F800000),
}


@dataclass(frozen=True)
class TensorRecipe:
    """All of a recipe that one merged tensor depends on besides the models: equal ones give equal bits."""

    method: str
    labels: tuple[str, ...]
    settings: Settings
    dtype: torch.dtype
    seed: int | None

    @classmethod
    def of(cls, recipe: Recipe, tensor: str) -> "TensorRecipe":
        """Take what concerns one tensor out of a recipe; a method that draws no mask depends on no seed."""
        method = get(recipe.method)
        return cls(
            method=recipe.method,
            labels=tuple(recipe.experts),
            settings=settings(recipe, method, tensor),
            dtype=TORCH_DTYPES[recipe.dtype],
            seed=recipe.seed if method.stochastic else None,
        )


def merge_into(
    out: torch.Tensor,
    tensor: str,
    recipe: TensorRecipe,
    base: torch.Tensor,
    experts: Mapping[str, torch.Tensor],
    uniforms: Uniforms,
) -> int:
    """Merge one tensor into `out` and return its fingerprint.

    Args:
        out: contiguous, on the CPU, as many elements as `base`; of the recipe's dtype, or float32, which then holds
            the rounded values exactly.
        tensor: its name.
        recipe: what to do.
        base, experts: the tensors, contiguous; experts by label.
        uniforms: where the mask's numbers come from.

    Raises `CandidateError` naming the tensor if an element comes out infinite or NaN; `out` is then spoilt.
    """
    flat = out.view(-1)

    def numbers(expert: int, first: int, count: int) -> torch.Tensor:
        return uniforms(recipe.seed or 0, recipe.labels[expert], tensor, first, count)

    operands = Operands(base.view(-1), tuple(experts[label].view(-1) for label in recipe.labels), numbers)
    span = get(recipe.method).plan(operands, recipe.settings)
    total = 0
    for first in range(0, operands.size, BLOCK):
        last = min(first + BLOCK, operands.size)
        rounded = span(first, last).to(recipe.dtype)
        exponent = _EXPONENT[recipe.dtype]
        if bool(((bit_words(rounded) & exponent) == exponent).any()):
            raise CandidateError(f"merged tensor {tensor!r} holds NaN or infinity; smaller weights would avoid it")
        total = combine(total, fingerprint(tensor, rounded, first=first))
        flat[first:last] = rounded
    return total
