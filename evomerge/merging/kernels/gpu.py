"""The weighted sums of many tensors on a GPU, straight into the live parameters, in one launch for all of a kind.

A candidate is some hundred tensors, most of them small: their numbers and addresses go to the device as one table, in
one copy, and one kernel merges all that need the same steps (`gpu_kernel.merge`). Nothing waits for the device before
`Launch.results`. This file knows nothing about methods, recipes or files. It is imported only where there is a GPU, or
under Triton's interpreter (`TRITON_INTERPRET=1` before triton is imported), which runs the kernel on the CPU.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from evomerge.merging import fingerprint
from evomerge.merging.kernels import gpu_kernel as kernel
from evomerge.merging.methods.base import RankMask, WeightedSum

_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
_RANK_TYPES = {torch.uint16: tl.uint16, torch.int32: tl.int32}
_KINDS = {
    (torch.bfloat16, torch.bfloat16): kernel.AS_BFLOAT16,
    (torch.float16, torch.float16): kernel.AS_FLOAT16,
    (torch.float32, torch.float32): kernel.AS_FLOAT32,
    (torch.bfloat16, torch.float32): kernel.AS_WIDENED_BFLOAT16,
    (torch.float16, torch.float32): kernel.AS_WIDENED_FLOAT16,
}
_ELECTIONS = {"none": kernel.NO_ELECTION, "weighted": kernel.WEIGHTED, "unweighted": kernel.UNWEIGHTED}
_NATIVE = isinstance(kernel.merge, triton.runtime.jit.JITFunction)

_key_of = cache(fingerprint.key_of)


class Target:
    """A tensor to be merged, or a span of one, and what it is merged from: prepared once, merged many times.

    All tensors are contiguous, on one device, and hold equally many elements.

    Args:
        name: of the tensor.
        dtype: what it is rounded to.
        out: where it goes: of `dtype`, or float32, which then holds the rounded values exactly.
        experts: in the order of a plan's terms; bfloat16, float16 or float32, like the base.
        base: None where no plan will have task vectors.
        mask_keys: the keys of the experts' masks (`mask.key_of`); may be empty where none will be drawn.
        first: the index, in the whole tensor, of the span's first element: a multiple of 8.

    Raises `ValueError` if the tensors do not fit together.
    """

    def __init__(
        self,
        *,
        name: str,
        dtype: torch.dtype,
        out: torch.Tensor,
        experts: Sequence[torch.Tensor],
        base: torch.Tensor | None = None,
        mask_keys: Sequence[int] = (),
        first: int = 0,
    ) -> None:
        tensors = [out, *experts, *([] if base is None else [base])]
        if any(t.device != out.device or t.numel() != out.numel() or not t.is_contiguous() for t in tensors):
            raise ValueError(f"{name}: tensors must be contiguous, of one size and on one device")
        if (dtype, out.dtype) not in _KINDS or first % 8:
            raise ValueError(f"{name}: {dtype} into {out.dtype} from element {first} is not possible")
        self.name, self.dtype, self.out, self.base, self.experts = name, dtype, out, base, tuple(experts)
        self.mask_keys, self.first, self.size = tuple(mask_keys), first, out.numel()
        # what the table of every launch holds of it (see gpu_kernel)
        self.integers = [out.data_ptr(), 0 if base is None else base.data_ptr(), self.size, first, _key_of(name), 0]
        for expert, key in zip(experts, mask_keys or [0] * len(experts), strict=True):
            self.integers += (expert.data_ptr(), key, 0, 0, 0)
        self.flags = (
            None if base is None else _TYPES[base.dtype],
            tuple(_TYPES[expert.dtype] for expert in experts),
            _KINDS[dtype, out.dtype],
            self.size % 8 == 0 and all(tensor.data_ptr() % 16 == 0 for tensor in tensors),
        )


class Job(NamedTuple):
    """A merge to make.

    Attributes:
        target: what and from what.
        plan: how; a base that is weighted like an expert must have become one (`tensors.all_terms`).
        ranks: each expert's ranks (see `Operands.ranks`), on the target's device, where its term has a mask by rank;
            may be empty where none has.
    """

    target: Target
    plan: WeightedSum
    ranks: Sequence[torch.Tensor | None] = ()


@dataclass(frozen=True)
class Shape:
    """How a launch divides its work; the result does not depend on it.

    Attributes:
        tile: elements that a program merges at a time, a power of two.
        warps: of 32 threads, a program; 8 elements a thread suit the kernel.
        tiles: how many tiles a program merges at most, one after the other.
        programs: so many keep the device busy: with fewer tiles than `tiles` times that, a program merges fewer.
    """

    tile: int = 1024
    warps: int = 4
    tiles: int = 32
    programs: int = 1 << 13


class Launch:
    """Merges under way on the device."""

    def __init__(self, results: torch.Tensor, order: Sequence[int], alive: object) -> None:
        self._results, self._order = results, order
        # what the device still reads
        self._alive = alive

    def results(self) -> list[tuple[int, bool]]:
        """Wait, and return each job's fingerprint and whether all of it is finite, in the order of the jobs."""
        rows = self._results.cpu().numpy().reshape(-1, 2)
        self._alive = None
        found = [(0, True)] * len(self._order)
        for number, value, infinite in zip(self._order, rows[:, 0].view(np.uint64), rows[:, 1], strict=True):
            found[number] = (int(value), bool(infinite == 0))
        return found


def weighted_sums(jobs: Sequence[Job], *, shape: Shape | None = None) -> Launch:
    """Begin to merge tensors, on the current stream of their device; return at once.

    Args:
        jobs: one or more, all on one device. Their tensors must live until the results have been taken.
        shape: how to divide the work; None: as suits an H200.

    Raises `ValueError` if a plan does not fit its target.
    """
    shape = shape or Shape()
    device = jobs[0].target.out.device
    rank_masks = _RankMasks()
    groups: defaultdict[_Flags, _Group] = defaultdict(_Group)
    for number, job in enumerate(jobs):
        _add(groups, number, job, rank_masks)
    tiles = sum(-(-job.target.size // shape.tile) for job in jobs)
    tiles = min(max(tiles // shape.programs, 1), shape.tiles)

    upload = _Upload()
    results = upload.add(np.zeros(2 * len(jobs), np.int64))
    tables = [tuple(upload.add(table) for table in group.tables(shape.tile * tiles)) for group in groups.values()]
    masks = upload.add(rank_masks.all())
    upload.send(device)

    first = 0
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for (flags, group), (integers, numbers, owners) in zip(groups.items(), tables, strict=True):
            programs = upload.at(owners, torch.int32)
            if len(programs):
                kernel.merge[(len(programs),)](
                    upload.at(integers, torch.int64),
                    upload.at(numbers, torch.float32),
                    upload.at(masks, torch.int64),
                    programs,
                    upload.at(results, torch.int64)[2 * first :],
                    tiles,
                    **flags._asdict(),
                    native=_NATIVE,
                    tile=shape.tile,
                    num_warps=shape.warps,
                    enable_fp_fusion=False,
                )
            first += len(group.order)
    order = [number for group in groups.values() for number in group.order]
    return Launch(upload.at(results, torch.int64), order, (jobs, upload))


class _Flags(NamedTuple):
    """The kernel's flags: jobs that share them go into one launch."""

    base_type: Any
    types: tuple[Any, ...]
    kind: int
    aligned: bool
    task_vectors: bool
    elect: int
    by_agreeing: bool
    banded: bool
    drawn: bool
    factored: bool
    scaled: bool
    rank_types: tuple[Any, ...]


@dataclass
class _Group:
    """The jobs of one launch: their places among all jobs, and their rows of the tables."""

    order: list[int] = field(default_factory=list)
    integers: list[list[int]] = field(default_factory=list)
    numbers: list[list[float]] = field(default_factory=list)

    def tables(self, run: int) -> tuple[npt.NDArray[Any], ...]:
        """Return the tables of integers and of numbers, and the owners of programs that merge `run` elements each."""
        # unsigned: keys have 64 bits
        integers = np.array(self.integers, np.uint64).view(np.int64)
        programs = -(-integers[:, 2] // run)
        integers[:, 5] = np.cumsum(programs) - programs
        with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and is found out in the result
            numbers = np.array(self.numbers, np.float32)
        return integers, numbers, np.repeat(np.arange(len(programs), dtype=np.int32), programs)


def _add(groups: dict[_Flags, _Group], number: int, job: Job, rank_masks: "_RankMasks") -> None:
    """Add a job to the group of its flags. Several hundred times a candidate: one pass over its terms."""
    target, plan = job.target, job.plan
    if len(plan.terms) != len(target.experts) or (target.base is None if plan.task_vectors else plan.base_weight != 0):
        raise ValueError(f"{target.name}: the plan needs other models than the target has")
    integers, numbers = target.integers.copy(), [plan.factor]
    banded = drawn = factored = False
    aligned = target.flags[3]
    rank_types: list[Any] = [None] * len(plan.terms)
    at = len(kernel.INTEGERS)
    for i, term in enumerate(plan.terms):
        low, high, threshold = term.at_least, term.at_most, term.threshold
        if threshold >= 65536:
            # none is kept: the mask has numbers below 65536 only, so a band does it
            low, high, threshold = math.inf, -1.0, 0
        if term.by_rank is not None:
            ranks = job.ranks[i] if i < len(job.ranks) else None
            if ranks is None or ranks.numel() != target.size or not ranks.is_contiguous():
                raise ValueError(f"{target.name}: the plan needs the rank of every element")
            rank_types[i] = _RANK_TYPES[ranks.dtype]
            aligned = aligned and ranks.data_ptr() % 16 == 0
            integers[at + 3], integers[at + 4] = ranks.data_ptr(), rank_masks.add(term.by_rank)
        if (threshold > 0 or term.by_rank is not None) and not target.mask_keys:
            raise ValueError(f"{target.name}: the plan needs the masks' keys")
        integers[at + 2] = threshold
        numbers += (low, high, term.factor, term.weight)
        banded = banded or low > 0 or high < math.inf
        drawn = drawn or threshold > 0
        factored = factored or term.factor != 1
        at += len(kernel.TERM_INTEGERS)
    flags = _Flags(
        *target.flags[:3],
        aligned,
        plan.task_vectors,
        _ELECTIONS[plan.elect],
        plan.divide_by_agreeing,
        banded,
        drawn,
        factored,
        plan.factor != 1,
        tuple(rank_types),
    )
    group = groups[flags]
    group.order.append(number)
    group.integers.append(integers)
    group.numbers.append(numbers)


class _RankMasks:
    """The masks by rank of a launch, one after the other, each once."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._packed: list[npt.NDArray[np.int64]] = [np.zeros(1, np.int64)]
        self._size = 1

    def add(self, mask: RankMask) -> int:
        """Return where a mask begins."""
        if id(mask) not in self._places:
            factors = np.ascontiguousarray(mask.factors, np.float32).view(np.int32).astype(np.int64)
            self._packed.append((factors << 32) | mask.thresholds)
            self._places[id(mask)] = self._size
            self._size += len(factors)
        return self._places[id(mask)]

    def all(self) -> npt.NDArray[np.int64]:
        return np.concatenate(self._packed)


class _Upload:
    """Arrays that go to the device in one copy."""

    def __init__(self) -> None:
        self._arrays: list[npt.NDArray[Any]] = []
        self._size = 0
        self._buffer = torch.empty(0, dtype=torch.uint8)

    def add(self, array: npt.NDArray[Any]) -> tuple[int, int]:
        """Take an array along; return its place."""
        place = self._size, self._size + array.nbytes
        self._arrays.append(array)
        self._size += -(-array.nbytes // 16) * 16
        return place

    def send(self, device: torch.device) -> None:
        host = torch.empty(self._size, dtype=torch.uint8, pin_memory=device.type == "cuda")
        buffer, at = host.numpy(), 0
        for array in self._arrays:
            buffer[at : at + array.nbytes] = array.reshape(-1).view(np.uint8)
            at += -(-array.nbytes // 16) * 16
        self._buffer = host.to(device, non_blocking=True)

    def at(self, place: tuple[int, int], dtype: torch.dtype) -> torch.Tensor:
        """Return an array on the device."""
        return self._buffer[place[0] : place[1]].view(dtype)
