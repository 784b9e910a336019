"""One merged tensor: planned once, then merged span by span, rounded once, checked and fingerprinted on the way.

Engine and export share these functions, so that what is scored is what ships. This file knows nothing about where
tensors come from or go to.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from evomerge.errors import CandidateError
from evomerge.merging import fingerprint, mask
from evomerge.merging.kernels import cpu
from evomerge.merging.methods import BLOCK, Operands, Plan, Settings, Term, WeightedSum, get
from evomerge.merging.methods.base import PASSTHROUGH, Source
from evomerge.merging.statistics import Models, PoolStatistics
from evomerge.recipes import Recipe
from evomerge.recipes.recipe import BASE

T = TypeVar("T")

TORCH_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

_ELECTIONS = {"none": cpu.NO_ELECTION, "weighted": cpu.WEIGHTED, "unweighted": cpu.UNWEIGHTED}


@dataclass(frozen=True)
class TensorRecipe:
    """All of a recipe that one merged tensor depends on besides the models: equal ones give equal bits."""

    method: str
    labels: tuple[str, ...]
    settings: Settings
    dtype: torch.dtype
    seed: int | None

    @classmethod
    def of(cls, recipe: Recipe, settings: Settings) -> "TensorRecipe":
        """Take what concerns one tensor out of a recipe; a method that draws no mask depends on no seed."""
        return cls(
            method=recipe.method,
            labels=tuple(recipe.experts),
            settings=settings,
            dtype=TORCH_DTYPES[recipe.dtype],
            seed=recipe.seed if get(recipe.method).stochastic else None,
        )


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor that is ready to be merged, any span of it.

    Attributes:
        operands: what it is made from.
        plan: how.
        dtype: what it is rounded to.
        mask_keys: the keys of the experts' masks.
        numbers: the masks' numbers for the whole tensor, where they are remembered.
    """

    operands: Operands
    plan: Plan
    dtype: torch.dtype
    mask_keys: tuple[int, ...]
    numbers: tuple[torch.Tensor | None, ...]

    def refuse_infinite(self, finite: bool) -> None:
        """Raise `CandidateError` unless all is finite."""
        if not finite:
            raise CandidateError(
                f"merged tensor {self.operands.name!r} holds NaN or infinity; smaller weights would avoid it"
            )


def plan_tensor(
    name: str,
    recipe: TensorRecipe,
    models: Models,
    statistics: PoolStatistics,
    remembered: mask.RememberedUniforms | None = None,
) -> PlannedTensor:
    """Plan one tensor: compute the numbers that need all of it.

    Args:
        name: the tensor.
        recipe: what to do with it.
        models: where it is merged from.
        statistics: of the same models, wherever they are computed from.
        remembered: where the numbers of masks are kept, if they are.
    """
    keys = tuple(mask.key_of(recipe.seed or 0, label, name) for label in recipe.labels)
    size = statistics.size(name)
    numbers: list[torch.Tensor | None] = [None] * len(keys)
    if remembered is not None and recipe.seed is not None:
        numbers = [remembered.whole(recipe.seed, label, name, size) for label in recipe.labels]

    def uniforms(expert: int, first: int, last: int) -> torch.Tensor:
        known = numbers[expert]
        return mask.uniforms(keys[expert], first, last) if known is None else known[first:last]

    own = statistics.of(name, recipe.labels)
    operands = Operands(
        name=name,
        shape=models.shape(name),
        labels=recipe.labels,
        base=models.source("", name),
        experts=tuple(models.source(label, name) for label in recipe.labels),
        statistics=own,
        uniforms=uniforms,
        ranks=own.ranks,
    )
    plan: Plan
    origin = str(recipe.settings.options[PASSTHROUGH.name])
    if origin:
        plan = _passthrough(operands.base if origin == BASE else operands.experts[recipe.labels.index(origin)])
    elif operands.size:
        plan = get(recipe.method).plan(operands, recipe.settings)
    else:
        plan = _passthrough(operands.base)
    return PlannedTensor(operands, plan, recipe.dtype, keys, tuple(numbers))


def merge_span(planned: PlannedTensor, first: int, last: int, out: torch.Tensor) -> int:
    """Merge elements first .. last - 1 on the CPU and return their fingerprint.

    Args:
        planned: the tensor.
        first, last: `first` is a multiple of 8.
        out: contiguous, on the CPU, of last - first elements, of the tensor's dtype; or float32, which then holds the
            rounded values exactly.

    Raises `CandidateError` naming the tensor if an element comes out infinite or NaN; `out` is then spoilt.
    """
    if isinstance(planned.plan, WeightedSum):
        return _weighted_sum(planned, planned.plan, first, last, out)
    total = 0
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        total += _finish(planned, planned.plan(start, stop), start, out[start - first : stop - first])
    return fingerprint.combine(total)


def all_terms(plan: WeightedSum, base: T, experts: Sequence[T]) -> tuple[WeightedSum, list[T]]:
    """Return a plan and its models, where a base that is weighted like any other model has become the last of them."""
    if plan.task_vectors or plan.base_weight == 0:
        return plan, list(experts)
    return replace(plan, terms=(*plan.terms, Term(plan.base_weight)), base_weight=0.0), [*experts, base]


def _passthrough(source: Source) -> Callable[[int, int], torch.Tensor]:
    return lambda first, last: source.read(first, last).float()


def _finish(planned: PlannedTensor, values: torch.Tensor, first: int, out: torch.Tensor) -> int:
    """Round float32 values into `out`, check them, and return their fingerprint."""
    if planned.dtype == torch.bfloat16:
        exact = values.contiguous().numpy()
        planned.refuse_infinite(bool(cpu.all_finite(exact)))
        rounded = out if out.dtype == torch.bfloat16 else torch.empty(values.shape, dtype=torch.bfloat16)
        bits = rounded.view(torch.uint16).numpy()
        cpu.round_bfloat16(exact, bits)
        value, finite = cpu.hash_bfloat16(bits, np.uint64(fingerprint.key_of(planned.operands.name)), first)
        planned.refuse_infinite(bool(finite))
        if rounded is not out:
            out.copy_(rounded)
        return int(value)
    rounded = values.to(planned.dtype)
    planned.refuse_infinite(bool(torch.isfinite(rounded).all()))
    out.copy_(rounded)
    return fingerprint.fingerprint(planned.operands.name, rounded, first=first)


@np.errstate(over="ignore")  # a number beyond float32 becomes infinite, and is found out as such
def _weighted_sum(planned: PlannedTensor, plan: WeightedSum, first: int, last: int, out: torch.Tensor) -> int:
    operands = planned.operands
    # what a record points to must live until the loop has run
    alive: list[Any] = []

    def place(record: npt.NDArray[Any], source: Source, address: str, storage: str) -> None:
        elements = source.read(first, last)
        if elements.dtype == torch.float16:
            elements = elements.float()
        alive.append(elements)
        record[address] = elements.data_ptr()
        record[storage] = cpu.BFLOAT16 if elements.dtype == torch.bfloat16 else cpu.FLOAT32

    record = np.zeros(1, cpu.SUM)[0]
    record["task_vectors"] = plan.task_vectors
    if plan.task_vectors:
        place(record, operands.base, "base", "base_storage")
    record["elect"] = _ELECTIONS[plan.elect]
    record["divide_by_agreeing"] = plan.divide_by_agreeing
    record["factor"] = plan.factor
    record["name_key"] = fingerprint.key_of(operands.name)
    record["first"], record["count"] = first, last - first
    target, storage = out, cpu.AS_UNROUNDED
    if planned.dtype == torch.bfloat16:
        storage = cpu.AS_BFLOAT16 if out.dtype == torch.bfloat16 else cpu.AS_WIDENED
    elif planned.dtype == torch.float32:
        storage = cpu.AS_FLOAT32
    else:
        target = torch.empty(out.shape, dtype=torch.float32)
    record["out"], record["out_storage"] = target.data_ptr(), storage

    plan, models = all_terms(plan, operands.base, operands.experts)
    terms = np.zeros(len(models), cpu.TERM)
    for expert, (term, model) in enumerate(zip(plan.terms, models, strict=True)):
        place(terms[expert], model, "address", "storage")
        alive.append(_describe(terms[expert], term, planned, expert, first, last))
    value, finite = cpu.weighted_sum(record, terms)
    if storage == cpu.AS_UNROUNDED:
        return _finish(planned, target, first, out)
    planned.refuse_infinite(bool(finite))
    return int(value)


def _describe(record: Any, term: Term, planned: PlannedTensor, expert: int, first: int, last: int) -> tuple[Any, ...]:
    """Fill in an expert's record; return what its addresses point to."""
    record["weight"], record["factor"] = term.weight, term.factor
    record["at_least"], record["at_most"] = term.at_least, term.at_most
    record["threshold"] = term.threshold
    if term.threshold > 0 or term.by_rank is not None:
        record["key"] = planned.mask_keys[expert]
        numbers = planned.numbers[expert]
        if numbers is not None:
            record["numbers"] = numbers.data_ptr() + 2 * first
    if term.by_rank is None:
        return ()
    ranks = planned.operands.ranks(expert, first, last).contiguous()
    thresholds, factors = np.ascontiguousarray(term.by_rank.thresholds), np.ascontiguousarray(term.by_rank.factors)
    record["ranks"], record["rank_bytes"] = ranks.data_ptr(), ranks.element_size()
    record["rank_thresholds"], record["rank_factors"] = thresholds.ctypes.data, factors.ctypes.data
    record["rank_count"] = len(thresholds)
    return ranks, thresholds, factors
