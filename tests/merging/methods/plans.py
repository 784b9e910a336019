"""Random plans and tensors for what executes plans."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from evomerge.merging.mask import key_of, uniforms
from evomerge.merging.methods import Term, WeightedSum
from evomerge.merging.methods.base import RankMask
from evomerge.merging.statistics import row_ranks

LABELS = ("code", "math", "prose", "zebra")
NAME = "model.layers.0.weight"


@dataclass(frozen=True)
class Case:
    """A plan and what it is to be executed on; tensors are flat."""

    plan: WeightedSum
    shape: tuple[int, ...]
    base: torch.Tensor
    experts: tuple[torch.Tensor, ...]
    numbers: tuple[torch.Tensor, ...]
    ranks: tuple[torch.Tensor, ...]
    seed: int


def random_case(seed: int, *, rows: int = 7, columns: int = 731) -> Case:
    """Return a case in which everything that a plan can say is drawn at random."""
    rng = np.random.default_rng(seed)
    experts = int(rng.integers(1, 5))
    dtypes = [torch.bfloat16, torch.float32, torch.float16]
    size = rows * columns

    def tensor(spread: float, dtype: torch.dtype) -> torch.Tensor:
        # a coarse grid now and then: ties, and exact zeros
        values = rng.normal(0, spread, size)
        values = np.round(values * 64) / 64 if rng.random() < 0.3 else values
        return torch.from_numpy(values.astype(np.float32)).to(dtype)

    base = tensor(0.1, dtypes[rng.integers(3)])
    models = [(base.float() + tensor(0.05, torch.float32)).to(dtypes[rng.integers(3)]) for _ in range(experts)]
    task_vectors = bool(rng.random() < 0.7)
    base_weight = 1.0 if task_vectors else float(rng.choice([0.0, 0.37]))
    plain_sum = base_weight not in (0.0, 1.0)
    terms = tuple(_term(rng, columns) for _ in models)
    plan = WeightedSum(
        terms,
        task_vectors=task_vectors,
        elect="none" if plain_sum else rng.choice(["none", "weighted", "unweighted"]).item(),
        divide_by_agreeing=bool(rng.random() < 0.5),
        factor=1.0 if plain_sum else float(rng.choice([1.0, 0.7, -0.2])),
        base_weight=base_weight,
    )
    return Case(
        plan,
        (rows, columns),
        base,
        tuple(models),
        tuple(uniforms(key_of(seed, label, NAME), 0, size) for label in LABELS[:experts]),
        tuple(row_ranks((model.float() - base.float()).view(rows, columns)).view(-1) for model in models),
        seed,
    )


def _term(rng: np.random.Generator, columns: int) -> Term:
    weight, factor = float(rng.choice([0.0, 1.0, 0.6, -0.4])), float(rng.choice([1.0, 1.9, 0.3]))
    kind = rng.choice(["plain", "mask", "all", "band", "both", "rank"])
    if kind == "rank":
        thresholds = np.sort(rng.integers(0, 65537, columns)).astype(np.int32)
        factors = rng.uniform(0.5, 3, columns).astype(np.float32)
        return Term(weight, factor=factor, by_rank=RankMask(thresholds, factors))
    threshold = {"mask": int(rng.integers(1, 65536)), "both": int(rng.integers(1, 65536)), "all": 65536}.get(kind, 0)
    low, high = 0.0, math.inf
    if kind in ("band", "both"):
        low = float(rng.choice([0.0, 0.015625, 0.03, math.inf]))
        high = float(rng.choice([0.078125, 0.1, math.inf]))
    return Term(weight, threshold=threshold, at_least=low, at_most=high, factor=factor)
