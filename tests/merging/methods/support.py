"""Running a method on plain tensors: small real sources, and statistics in the plainest way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from evomerge.merging.mask import uniforms
from evomerge.merging.methods import Operands, Settings, WeightedSum, get
from tests.merging.methods.oracle import weighted_sum

NAME = "t"


@dataclass(frozen=True)
class Tensor:
    """A tensor in memory as a source."""

    flat: torch.Tensor

    def read(self, first: int, last: int) -> torch.Tensor:
        return self.flat[first:last]


@dataclass(frozen=True)
class PlainStatistics:
    """`Statistics` by sorting and by float64 sums; `others`: task vectors of the rest of the model, by expert."""

    base: torch.Tensor
    experts: tuple[torch.Tensor, ...]
    others: Mapping[int, torch.Tensor] = field(default_factory=dict)

    def l1(self, expert: int) -> float:
        return float(self._delta(expert).double().abs().sum())

    def gram(self) -> npt.NDArray[np.float64]:
        return _gram([self.base.float(), *(expert.float() for expert in self.experts)])

    def gram_of_task_vectors(self) -> npt.NDArray[np.float64]:
        return _gram([self._delta(expert) for expert in range(len(self.experts))])

    def kth_largest(self, expert: int, k: int) -> float:
        return float(self._delta(expert).abs().sort(descending=True).values[k - 1])

    def kth_largest_of_model(self, expert: int, density: float) -> float:
        everything = torch.cat([self._delta(expert), self.others.get(expert, torch.empty(0))]).abs()
        return float(everything.sort(descending=True).values[max(1, int(density * everything.numel())) - 1])

    def _delta(self, expert: int) -> torch.Tensor:
        return self.experts[expert].float() - self.base.float()


def ranks_of(delta: torch.Tensor) -> torch.Tensor:
    """Each element's rank by magnitude in its row, flat, equal ones by position."""
    rows = delta.abs().reshape(-1, delta.shape[-1] if delta.dim() else 1)
    order = torch.argsort(rows, dim=1, stable=True)
    ranks = torch.empty_like(order).scatter_(1, order, torch.arange(rows.shape[1]).expand_as(order).contiguous())
    return ranks.view(-1).to(torch.uint16 if rows.shape[1] <= 65536 else torch.int32)


def operands_of(
    base: torch.Tensor,
    experts: Mapping[str, torch.Tensor],
    *,
    seed: int = 0,
    others: Mapping[str, torch.Tensor] | None = None,
) -> Operands:
    """Return operands over tensors in memory; `others`: label -> task vectors of the rest of the model."""
    labels = tuple(sorted(experts))
    flat = tuple(experts[label].reshape(-1) for label in labels)
    rest = {labels.index(label): other for label, other in (others or {}).items()}

    def ranks(expert: int, first: int, last: int) -> torch.Tensor:
        return ranks_of((flat[expert].float() - base.reshape(-1).float()).view(base.shape))[first:last]

    return Operands(
        NAME,
        tuple(base.shape),
        labels,
        Tensor(base.reshape(-1)),
        tuple(map(Tensor, flat)),
        PlainStatistics(base.reshape(-1), flat, rest),
        lambda expert, first, last: uniforms(seed, labels[expert], NAME, first, last - first),
        ranks,
    )


def settings_of(
    method: str, labels: Sequence[str], parameters: Mapping[str, Any], options: Mapping[str, Any]
) -> Settings:
    """Return complete settings: a parameter is one value for all experts, or a mapping from labels."""
    found = get(method)

    def value(parameter: Any, label: str) -> Any:
        given = parameters.get(parameter.name, 1.0 if parameter.default is None else parameter.default)
        return given[label] if isinstance(given, Mapping) else given

    assert set(parameters) <= {p.name for p in found.parameters}
    assert set(options) <= {p.name for p in found.options}
    return Settings(
        tuple({p.name: value(p, label) for p in found.parameters} for label in labels),
        {p.name: options.get(p.name, p.default) for p in found.options},
    )


def run(
    method: str,
    base: torch.Tensor,
    experts: Mapping[str, torch.Tensor],
    parameters: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    cuts: Sequence[int] = (),
    others: Mapping[str, torch.Tensor] | None = None,
) -> torch.Tensor:
    """Merge by a method: float32, of the base's shape. `cuts`: where a span ends and the next begins."""
    operands = operands_of(base, experts, seed=seed, others=others)
    settings = settings_of(method, operands.labels, parameters or {}, options or {})
    assert get(method).refusal(settings) is None
    plan = get(method).plan(operands, settings)
    edges = sorted({0, *(cut for cut in cuts if 0 < cut < operands.size), operands.size})
    spans = [
        _execute(plan, operands, first, last) if isinstance(plan, WeightedSum) else plan(first, last)
        for first, last in pairwise(edges)
    ]
    return torch.cat([torch.empty(0), *spans]).view(base.shape)


def _execute(plan: WeightedSum, operands: Operands, first: int, last: int) -> torch.Tensor:
    numbers = [
        operands.uniforms(i, first, last) if term.threshold or term.by_rank else None
        for i, term in enumerate(plan.terms)
    ]
    ranks = [operands.ranks(i, first, last) if term.by_rank else None for i, term in enumerate(plan.terms)]
    experts = [source.read(first, last) for source in operands.experts]
    return weighted_sum(plan, operands.base.read(first, last), experts, numbers, ranks)


def _gram(tensors: list[torch.Tensor]) -> npt.NDArray[np.float64]:
    stacked = np.stack([tensor.double().numpy() for tensor in tensors])
    return stacked @ stacked.T
