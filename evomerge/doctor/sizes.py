"""How large the task vectors of a pool are, as a search needs to know it: norms by group, and how far DARE may drop.

A sample is read: at most `deltas.BLOCK` elements of each tensor, the base's once for all experts. For a 7B model (291
tensors) that is 0.3 GB a model of 14 GB, and about three seconds on one core with three experts; a mixture of many
small experts is read nearly whole. The numbers depend on the weights alone, not on threads. This file knows nothing
about search spaces.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from evomerge.checkpoints import ModelPool
from evomerge.doctor.deltas import TensorPair, measure
from evomerge.doctor.verdicts import drop_rate_limit


@dataclass(frozen=True)
class Sizes:
    """The task vectors' sizes.

    Attributes:
        squared_norms: expert -> finest group (`layers.3.mlp`) -> squared Euclidean norm, estimated from the sample.
        drop_rate_limits: expert -> the drop rate at which DARE's noise reaches a tenth of the base's weights; only of
            experts whose task vectors are wide for DARE.
    """

    squared_norms: Mapping[str, Mapping[str, float]]
    drop_rate_limits: Mapping[str, float]


def measure_sizes(pool: ModelPool, *, threads: int = 1, progress: Callable[[float], None] | None = None) -> Sizes:
    """Measure the task vectors of a pool; `progress` is called now and then with the share that is done."""
    pairs = [
        TensorPair(name, pool.source("", name), {label: pool.source(label, name) for label in pool.experts})
        for name in pool.layout.tensors
    ]
    deltas = measure(pairs, threads=threads, quick=True, progress=progress)
    norms = {
        label: {group: part.delta_norm**2 for group, part in delta.groups.items()}
        for label, delta in deltas.experts.items()
    }
    limits = {label: drop_rate_limit(delta.whole) for label, delta in deltas.experts.items()}
    return Sizes(norms, {label: limit for label, limit in limits.items() if limit is not None})
