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
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl

from evomerge.merging import fingerprint
from evomerge.merging.kernels import gpu_kernel as kernel
from evomerge.merging.methods.base import RankMask, Term, WeightedSum

#: Leaves values as they are: rounds, checks and fingerprints what something else has merged.
COPY = WeightedSum((Term(1.0),), task_vectors=False, base_weight=0.0)

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


@dataclass(frozen=True)
class Job:
    """A tensor to merge, or a span of one. All tensors are contiguous, on one device, of equally many elements.

    Attributes:
        name: of the tensor.
        plan: how; a base that is weighted like an expert must have become one (`tensors.all_terms`).
        dtype: what it is rounded to.
        base: None where the plan does not need it.
        experts: in label order; bfloat16, float16 or float32, like the base.
        out: where it goes: of `dtype`, or float32, which then holds the rounded values exactly.
        mask_keys: the keys of the experts' masks (`mask.key_of`); may be empty where none is drawn.
        ranks: each expert's ranks (see `Operands.ranks`) where its term has a mask by rank; may be empty otherwise.
        first: the index, in the whole tensor, of the span's first element: a multiple of 8.
    """

    name: str
    plan: WeightedSum
    dtype: torch.dtype
    base: torch.Tensor | None
    experts: Sequence[torch.Tensor]
    out: torch.Tensor
    mask_keys: Sequence[int] = ()
    ranks: Sequence[torch.Tensor | None] = ()
    first: int = 0


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
    tiles: int = 16
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

    Raises `ValueError` if a job's tensors do not fit together.
    """
    shape = shape or Shape()
    device = jobs[0].out.device
    groups: defaultdict[_Flags, list[Job]] = defaultdict(list)
    order: defaultdict[_Flags, list[int]] = defaultdict(list)
    for number, job in enumerate(jobs):
        _check(job, device)
        flags = _flags(job)
        groups[flags].append(job)
        order[flags].append(number)
    tiles = sum(-(-job.out.numel() // shape.tile) for job in jobs)
    tiles = min(max(tiles // shape.programs, 1), shape.tiles)

    upload = _Upload()
    results = upload.add(np.zeros(2 * len(jobs), np.int64))
    rank_masks = _RankMasks()
    tables = []
    for members in groups.values():
        integers, numbers = _tables(members, rank_masks)
        programs = -(-integers[:, 2] // (shape.tile * tiles))
        integers[:, 5] = np.cumsum(programs) - programs
        owners = np.repeat(np.arange(len(members), dtype=np.int32), programs)
        tables.append((upload.add(integers), upload.add(numbers), upload.add(owners), len(owners)))
    masks = upload.add(rank_masks.all())
    upload.send(device)

    first = 0
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for (flags, members), (integers_at, numbers_at, owners_at, count) in zip(groups.items(), tables, strict=True):
            if count:
                kernel.merge[(count,)](
                    upload.at(integers_at, torch.int64),
                    upload.at(numbers_at, torch.float32),
                    upload.at(masks, torch.int64),
                    upload.at(owners_at, torch.int32),
                    upload.at(results, torch.int64)[2 * first :],
                    tiles,
                    **flags._asdict(),
                    native=_NATIVE,
                    tile=shape.tile,
                    num_warps=shape.warps,
                    enable_fp_fusion=False,
                )
            first += len(members)
    numbers_in_order = [number for members in order.values() for number in members]
    return Launch(upload.at(results, torch.int64), numbers_in_order, (jobs, upload))


class _Flags(NamedTuple):
    """The kernel's flags: jobs that share them go into one launch."""

    base_type: Any
    types: tuple[Any, ...]
    rank_types: tuple[Any, ...]
    kind: int
    task_vectors: bool
    banded: bool
    drawn: bool
    factored: bool
    elect: int
    by_agreeing: bool
    scaled: bool
    aligned: bool


def _ranks(job: Job) -> list[torch.Tensor | None]:
    """Return each expert's ranks where its term has a mask by rank."""
    return [job.ranks[i] if term.by_rank is not None else None for i, term in enumerate(job.plan.terms)]


def _tensors(job: Job) -> list[torch.Tensor]:
    return [tensor for tensor in (job.out, job.base, *job.experts, *_ranks(job)) if tensor is not None]


def _flags(job: Job) -> _Flags:
    plan = job.plan
    return _Flags(
        base_type=_TYPES[job.experts[0].dtype if job.base is None else job.base.dtype],
        types=tuple(_TYPES[expert.dtype] for expert in job.experts),
        rank_types=tuple(None if ranks is None else _RANK_TYPES[ranks.dtype] for ranks in _ranks(job)),
        kind=_KINDS[job.dtype, job.out.dtype],
        task_vectors=plan.task_vectors,
        banded=any(t.at_least > 0 or t.at_most < math.inf or t.threshold >= 65536 for t in plan.terms),
        drawn=any(0 < t.threshold < 65536 for t in plan.terms),
        factored=any(t.factor != 1 for t in plan.terms),
        elect=_ELECTIONS[plan.elect],
        by_agreeing=plan.divide_by_agreeing,
        scaled=plan.factor != 1,
        aligned=job.out.numel() % 8 == 0 and all(tensor.data_ptr() % 16 == 0 for tensor in _tensors(job)),
    )


def _check(job: Job, device: torch.device) -> None:
    if (job.dtype, job.out.dtype) not in _KINDS or job.first % 8 or len(job.experts) != len(job.plan.terms):
        raise ValueError(f"{job.name}: {job.dtype} into {job.out.dtype} from element {job.first} is not possible")
    if job.base is None if job.plan.task_vectors else job.plan.base_weight != 0:
        raise ValueError(f"{job.name}: the plan needs the base")
    for i, term in enumerate(job.plan.terms):
        if (term.by_rank is not None or 0 < term.threshold < 65536) and i >= len(job.mask_keys):
            raise ValueError(f"{job.name}: the plan needs the masks' keys")
        if term.by_rank is not None and (i >= len(job.ranks) or job.ranks[i] is None):
            raise ValueError(f"{job.name}: the plan needs the experts' ranks")
    size = job.out.numel()
    if any(t.device != device or t.numel() != size or not t.is_contiguous() for t in _tensors(job)):
        raise ValueError(f"{job.name}: tensors must be contiguous, of one size and on one device")


def _tables(jobs: Sequence[Job], rank_masks: "_RankMasks") -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the tables of a launch (see `gpu_kernel`)."""
    integers: list[list[int]] = []
    numbers: list[list[float]] = []
    for job in jobs:
        plan, base = job.plan, 0 if job.base is None else job.base.data_ptr()
        whole = [job.out.data_ptr(), base, job.out.numel(), job.first, _key_of(job.name), 0]
        real = [plan.factor]
        for i, (term, ranks) in enumerate(zip(plan.terms, _ranks(job), strict=True)):
            all_dropped = term.threshold >= 65536
            whole += (
                job.experts[i].data_ptr(),
                job.mask_keys[i] if i < len(job.mask_keys) else 0,
                0 if all_dropped else term.threshold,
                0 if ranks is None else ranks.data_ptr(),
                0 if term.by_rank is None else rank_masks.add(term.by_rank),
            )
            band = (math.inf, -1.0) if all_dropped else (term.at_least, term.at_most)
            real += (*band, term.factor, term.weight)
        integers.append(whole)
        numbers.append(real)
    with np.errstate(over="ignore"):  # a number beyond float32 becomes infinite, and the result is found out as such
        return np.array(integers, np.uint64).view(np.int64), np.array(numbers, np.float32)


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
