"""NuSLERP: slerp of two experts' task vectors, or of their tensors, as a whole or slice by slice (mergekit).

Names, defaults and bounds are mergekit's, where a base in the configuration says that task vectors are meant; here
`task_vectors` does. Parallel and opposite vectors are interpolated linearly. They count as such where float32, in which
mergekit computes, cannot tell the square of their cosine from 1.
"""

import math
from functools import partial

import torch

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Span, Term, WeightedSum
from evomerge.merging.methods.parameters import WEIGHT
from evomerge.merging.methods.slerp import arc
from evomerge.merging.methods.slices import Slices

# Weights that sum to less have no ratio; a vector shorter than this is divided by it, not by its norm.
_SMALL_SUM, _SMALL_NORM = 1e-6, 1e-7
_ONE_IN_FLOAT32 = 2.0**-24

_ROW_WISE = Parameter(
    "nuslerp_row_wise",
    "slices run along the first dimension instead of the last",
    default=False,
    choices=(True, False),
)
_FLATTEN = Parameter("nuslerp_flatten", "take the tensor as one vector", default=True, choices=(True, False))
_TASK_VECTORS = Parameter(
    "task_vectors",
    "of the task vectors, added to the base; otherwise of the tensors",
    default=True,
    choices=(True, False),
)


class NuSlerp(Method):
    """Slerp with t = w_2 / (w_1 + w_2), one half where the weights cancel out."""

    name = "nuslerp"
    meaning = "along the arc between two experts' task vectors"
    parameters = (WEIGHT,)
    options = (_ROW_WISE, _FLATTEN, _TASK_VECTORS)
    experts = (2, 2)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights = settings.numbers("weight")
        total = sum(weights)
        t = 0.5 if abs(total) < _SMALL_SUM else weights[1] / total
        task_vectors = bool(settings.options["task_vectors"])
        if settings.options["nuslerp_flatten"]:
            gram = operands.statistics.gram_of_task_vectors() if task_vectors else operands.statistics.gram()[1:, 1:]
            coefficients = _coefficients(t, float(gram[0, 0]), float(gram[1, 1]), float(gram[0, 1]))
            terms = tuple(Term(coefficient) for coefficient in coefficients)
            return WeightedSum(terms, task_vectors=task_vectors, base_weight=float(task_vectors))
        return _by_slice(
            operands, t, task_vectors=task_vectors, first_dimension=bool(settings.options["nuslerp_row_wise"])
        )


def _by_slice(operands: Operands, t: float, *, task_vectors: bool, first_dimension: bool) -> Span:
    shape = operands.shape or (1,)
    columns = operands.size // max(shape[0], 1) if first_dimension else shape[-1]
    slices = Slices(operands.size, columns, rows=not first_dimension)
    read = operands.delta if task_vectors else operands.expert

    vectors: list[Span] = [partial(read, expert) for expert in (0, 1)]
    key = ("dots of slices", task_vectors, first_dimension)
    dots = operands.statistics.once(key, lambda: slices.dots(vectors))
    found = [_coefficients(t, float(dot[0, 0]), float(dot[1, 1]), float(dot[0, 1])) for dot in dots]
    starts, ends = (torch.tensor([pair[i] for pair in found], dtype=torch.float32) for i in (0, 1))

    def merge(first: int, last: int) -> torch.Tensor:
        total = read(0, first, last) * slices.spread(starts, first, last)
        total += read(1, first, last) * slices.spread(ends, first, last)
        return total + operands.origin(first, last) if task_vectors else total

    return merge


def _coefficients(t: float, square_a: float, square_c: float, dot: float) -> tuple[float, float]:
    """Return the coefficients of two vectors from their squared norms and their dot product."""
    norms = max(math.sqrt(square_a), _SMALL_NORM) * max(math.sqrt(square_c), _SMALL_NORM)
    cosine = min(max(dot / norms, -1.0), 1.0)
    return (1.0 - t, t) if 1.0 - cosine * cosine <= _ONE_IN_FLOAT32 else arc(t, cosine)
