"""Running a method on plain tensors: planned and executed as in the engine, on sources and statistics in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from evomerge.merging.methods import PASSTHROUGH, Operands, Settings, get
from evomerge.merging.statistics import PoolStatistics
from evomerge.merging.tensors import PlannedTensor, TensorRecipe, merge_span, plan_tensor

NAME = "model.layers.0.mlp.up_proj.weight"


@dataclass(frozen=True)
class Elements:
    """A tensor in memory as a source."""

    flat: torch.Tensor

    def read(self, first: int, last: int) -> torch.Tensor:
        return self.flat[first:last]


@dataclass(frozen=True)
class Memory:
    """Models in memory: tensor name -> label ("" is the base) -> tensor."""

    tensors: Mapping[str, Mapping[str, torch.Tensor]]

    def source(self, label: str, name: str) -> Elements:
        return Elements(self.tensors[name][label].contiguous().view(-1))

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self.tensors[name][""].shape)


def settings_of(
    method: str, labels: Sequence[str], parameters: Mapping[str, Any], options: Mapping[str, Any]
) -> Settings:
    """Return complete settings: a parameter is one value for all experts, or a mapping from labels."""
    found = get(method)
    assert set(parameters) <= {p.name for p in found.parameters}
    assert set(options) <= {p.name for p in found.options}

    def value(parameter: Any, label: str) -> Any:
        given = parameters.get(parameter.name, parameter.default)
        given = given[label] if isinstance(given, Mapping) else given
        assert parameter.refusal(given) is None
        return given

    values = {p.name: options.get(p.name, p.default) for p in found.options}
    assert all(p.refusal(values[p.name]) is None for p in found.options)
    return Settings(
        tuple({p.name: value(p, label) for p in found.parameters} for label in labels),
        {**values, PASSTHROUGH.name: ""},
    )


def run(
    method: str,
    base: torch.Tensor,
    experts: Mapping[str, torch.Tensor],
    parameters: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    name: str = NAME,
    cuts: Sequence[int] = (),
    others: Mapping[str, Mapping[str, torch.Tensor]] | None = None,
    cache_bytes: int = 0,
) -> torch.Tensor:
    """Merge one tensor by a method.

    Args:
        method: its name.
        base, experts: the tensors, experts by label in any order.
        parameters, options: what differs from the defaults; see `settings_of`.
        seed: of the masks.
        name: of the tensor.
        cuts: where a span ends and the next begins, multiples of 8.
        others: further tensors of the models: name -> label -> tensor.
        cache_bytes: memory for tables and ranks.

    Returns a float32 tensor of the base's shape.
    """
    labels = tuple(sorted(experts))
    settings = settings_of(method, labels, parameters or {}, options or {})
    assert get(method).refusal(settings) is None
    tensors = {name: {"": base, **experts}, **(others or {})}
    planned = _planned(method, labels, settings, tensors, name, seed, cache_bytes)
    out = torch.empty(base.numel())
    for first, last in pairwise(sorted({0, *(cut for cut in cuts if 0 < cut < out.numel()), out.numel()})):
        merge_span(planned, first, last, out[first:last])
    return out.view(base.shape)


def operands_of(base: torch.Tensor, experts: Mapping[str, torch.Tensor]) -> Operands:
    """Return the operands that a method's plan is made from."""
    labels = tuple(sorted(experts))
    settings = settings_of("linear", labels, {"weight": 1.0}, {})
    return _planned("linear", labels, settings, {NAME: {"": base, **experts}}, NAME, 0, 0).operands


def _planned(
    method: str,
    labels: tuple[str, ...],
    settings: Settings,
    tensors: Mapping[str, Mapping[str, torch.Tensor]],
    name: str,
    seed: int,
    cache_bytes: int,
) -> PlannedTensor:
    models = Memory(tensors)
    statistics = PoolStatistics(models, tuple(sorted(tensors)), cache_bytes=cache_bytes)
    return plan_tensor(name, TensorRecipe(method, labels, settings, torch.float32, seed), models, statistics)
