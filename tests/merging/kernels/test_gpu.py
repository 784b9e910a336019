"""The GPU's kernel gives the bits of the CPU's: on a GPU where there is one, else in Triton's interpreter."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton comes with builds of torch for GPUs")

import triton
import triton.language as tl

from evomerge.merging import fingerprint, mask
from evomerge.merging.kernels import gpu_kernel
from evomerge.merging.kernels.gpu import Job, Shape, Target, weighted_sums
from evomerge.merging.methods.base import Operands, RankMask, Term, WeightedSum
from evomerge.merging.tensors import PlannedTensor, all_terms, merge_span
from tests.merging.methods.oracle import weighted_sum
from tests.merging.methods.plans import LABELS, NAME, Case, random_case

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SMALL = Shape(tile=256, warps=1, tiles=3)
#: Leaves values as they are.
COPY = WeightedSum((Term(1.0),), task_vectors=False, base_weight=0.0)


class Held:
    def __init__(self, elements: torch.Tensor) -> None:
        self.elements = elements

    def read(self, first: int, last: int) -> torch.Tensor:
        return self.elements[first:last]


def case_of(seed: int, *, size: int | None = None, **changes: Any) -> Case:
    """Return a random case; its plan with these changes."""
    case = random_case(seed, rows=1, columns=size) if size else random_case(seed, rows=3 + seed % 5, columns=173)
    plan = replace(case.plan, **changes)
    if not plan.task_vectors and plan.base_weight != 0:
        plan = replace(plan, factor=1.0, elect="none")
    return replace(case, plan=plan)


def keys_of(case: Case) -> list[int]:
    return [mask.key_of(case.seed, label, NAME) for label in LABELS[: len(case.experts)]]


def job_of(case: Case, dtype: torch.dtype, *, widened: bool = False, shift: int = 0) -> Job:
    """Return the job, on the device; `shift` moves every tensor off by so many elements."""
    size = case.base.numel()

    def put(tensor: torch.Tensor) -> torch.Tensor:
        whole = torch.zeros(size + 16, dtype=tensor.dtype, device=DEVICE)
        whole[shift : shift + size] = tensor.to(DEVICE)
        return whole[shift : shift + size]

    out = torch.full((size,), 7.0, dtype=torch.float32 if widened else dtype)
    plan, experts = all_terms(case.plan, case.base, case.experts)
    ranks = [put(r) for r in case.ranks]
    target = Target(
        name=NAME,
        dtype=dtype,
        out=put(out),
        experts=[put(x) for x in experts],
        base=put(case.base),
        mask_keys=keys_of(case) + [0] * (len(experts) - len(case.experts)),
    )
    return Job(target, plan, ranks)


def from_cpu(case: Case, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
    operands = Operands(
        name=NAME,
        shape=case.shape,
        labels=LABELS[: len(case.experts)],
        base=Held(case.base),
        experts=tuple(Held(x) for x in case.experts),
        statistics=None,  # type: ignore[arg-type]
        uniforms=lambda e, first, last: case.numbers[e][first:last],
        ranks=lambda e, first, last: case.ranks[e][first:last],
    )
    out = torch.empty(case.base.numel(), dtype=dtype)
    planned = PlannedTensor(operands, case.plan, dtype, tuple(keys_of(case)), numbers=(None,) * len(case.experts))
    return out, merge_span(planned, 0, out.numel(), out)


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.dtype == y.dtype and bool((fingerprint.bit_words(x) == fingerprint.bit_words(y)).all())


def check(case: Case, job: Job, result: tuple[int, bool]) -> None:
    dtype, out = job.target.dtype, job.target.out
    expected, value = from_cpu(case, dtype)
    assert same_bits(expected, weighted_sum(case.plan, case.base, case.experts, case.numbers, case.ranks).to(dtype))
    assert same_bits(out, expected.to(out.dtype))
    assert result == (value, True)


def run(*jobs: Job, shape: Shape = SMALL) -> list[tuple[int, bool]]:
    return weighted_sums(jobs, shape=shape).results()


@triton.jit(do_not_specialize=["block"])
def _numbers(out, words, block, tile: tl.constexpr):
    key = (tl.load(words), tl.load(words + 1))
    tl.store(out + tl.arange(0, tile), (gpu_kernel.draw(key, block.to(tl.int64), tile) >> 16).to(tl.int32))


def vectors() -> list[dict[str, Any]]:
    return json.loads((Path(__file__).parents[1] / "mask_vectors.json").read_text())["cases"]


@pytest.mark.parametrize("case", vectors(), ids=lambda case: case["tensor"])
def test_mask_numbers_are_those_of_an_independent_implementation(case):
    key = mask.key_of(case["seed"], case["expert"], case["tensor"])
    first = case["first_element"]
    tile = 2 ** math.ceil(math.log2(len(case["halves"]) + 8))
    out = torch.zeros(tile, dtype=torch.int32, device=DEVICE)
    words = torch.tensor([key & 0xFFFFFFFF, key >> 32], dtype=torch.int64).to(torch.uint32).to(DEVICE)
    _numbers[(1,)](out, words, first // 8, tile)
    assert out.tolist()[first % 8 :][: len(case["halves"])] == case["halves"]


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(20, 60))])
def test_bits_and_fingerprint_are_those_of_the_cpu(seed):
    case = case_of(seed)
    job = job_of(case, DTYPES[seed % 3], shift=seed % 5 % 3)
    check(case, job, *run(job))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_float32_parameters_hold_the_rounded_values(dtype):
    case = case_of(100, size=1000)
    job = job_of(case, dtype, widened=True)
    check(case, job, *run(job))


@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 256, 264, 769, 2048])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_any_size(size, dtype):
    case = case_of(200 + size, size=size)
    job = job_of(case, dtype)
    check(case, job, *run(job))


def test_many_tensors_in_one_call_are_each_merged_with_their_own_numbers():
    # plans that need different steps, mixed: several launches
    cases = [case_of(300 + i, size=8 * (5 + 13 * i)) for i in range(6)]
    cases += [case_of(400 + i, size=8 * (5 + 13 * i), terms=(Term(0.1 * i),) * 4) for i in range(20)]
    cases = [case for case in cases if len(case.plan.terms) == len(case.experts)]
    jobs = [job_of(case, torch.bfloat16) for case in cases]
    assert len(jobs) > 8
    for case, job, result in zip(cases, jobs, run(*jobs), strict=True):
        check(case, job, result)


@pytest.mark.parametrize("shape", [Shape(), Shape(tile=128, warps=1, tiles=1), Shape(programs=1)], ids=str)
def test_the_division_of_the_work_does_not_matter(shape):
    case = case_of(500, size=2600)
    job = job_of(case, torch.bfloat16)
    check(case, job, *run(job, shape=shape))


@pytest.mark.parametrize("seed", range(600, 606))
def test_a_tensor_may_be_merged_in_pieces(seed):
    case = case_of(seed, size=1000)
    whole = job_of(case, torch.bfloat16)

    def piece(first: int, last: int) -> Job:
        def cut(tensors: Sequence[Any]) -> list[Any]:
            return [tensor[first:last] for tensor in tensors]

        target = Target(
            name=NAME,
            dtype=torch.bfloat16,
            out=whole.target.out[first:last],
            experts=cut(whole.target.experts),
            base=whole.target.base[first:last],
            mask_keys=whole.target.mask_keys,
            first=first,
        )
        return Job(target, whole.plan, cut(whole.ranks))

    results = run(piece(0, 304), piece(304, 1000))
    check(case, whole, (fingerprint.combine(*(value for value, _ in results)), all(fine for _, fine in results)))


def test_elements_far_into_a_tensor_have_their_own_numbers():
    # beyond 2^35 elements the Philox block takes more than 32 bits
    terms = (Term(1.0, threshold=32768, factor=2.0),)
    base, expert, out = torch.zeros(64), torch.ones(64), torch.zeros(64)
    first, key = (1 << 35) + 800, 12345678901234567890
    plan = WeightedSum(terms)
    on = [tensor.to(DEVICE) for tensor in (base, expert, out)]
    target = Target(
        name="far", dtype=torch.float32, out=on[2], experts=[on[1]], base=on[0], mask_keys=[key], first=first
    )
    [result] = run(Job(target, plan))
    expected = (mask.uniforms(key, first, first + 64).to(torch.int32) >= 32768).float() * 2
    assert same_bits(on[2], expected)
    assert result == (fingerprint.fingerprint("far", expected, first=first), True)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (math.nan, torch.bfloat16),
        (math.inf, torch.float16),
        (-math.inf, torch.float32),
        (3.4e38, torch.bfloat16),  # rounds to infinity
        (65520.0, torch.float16),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_what_is_not_finite_is_found_in_its_tensor(value, dtype):
    spoilt = torch.ones(1000)
    spoilt[777] = value
    jobs = []
    for values in (torch.ones(1000), spoilt, torch.ones(1000)):
        out = torch.empty(1000, dtype=dtype, device=DEVICE)
        jobs.append(Job(Target(name="t", dtype=dtype, out=out, experts=[values.to(DEVICE)]), COPY))
    results = run(*jobs)
    assert [finite for _, finite in results] == [True, False, True]
    assert results[0] == (fingerprint.fingerprint("t", torch.ones(1000, dtype=dtype)), True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_copy_rounds_to_nearest_even(dtype):
    bits = np.random.default_rng(5).integers(0, 1 << 32, 4096, np.uint32, endpoint=False)
    # half way between two bfloat16, and between two float16
    bits[:1024] = bits[:1024] & np.uint32(0xFFFF0000) | np.uint32(0x8000)
    bits[1024:2048] = bits[1024:2048] & np.uint32(0xFFFFE000) | np.uint32(0x1000)
    values = torch.from_numpy(bits.view(np.float32).copy())
    values = values[torch.isfinite(values.to(dtype))]
    out = torch.empty(len(values), dtype=dtype, device=DEVICE)
    [result] = run(Job(Target(name="t", dtype=dtype, out=out, experts=[values.to(DEVICE)]), COPY))
    assert same_bits(out, values.to(dtype))
    assert result == (fingerprint.fingerprint("t", values.to(dtype)), True)


def test_what_does_not_fit_together_is_refused():
    x = torch.zeros(8, device=DEVICE)
    with pytest.raises(ValueError, match="of one size"):
        Target(name="t", dtype=torch.float32, out=x, experts=[x[:4]])
    with pytest.raises(ValueError, match="not possible"):
        Target(name="t", dtype=torch.float32, out=x, experts=[x], first=4)
    target = Target(name="t", dtype=torch.float32, out=x, experts=[x])
    with pytest.raises(ValueError, match="other models"):
        run(Job(target, WeightedSum((Term(1.0),))))
    with pytest.raises(ValueError, match="keys"):
        run(Job(target, replace(COPY, terms=(Term(1.0, threshold=5),))))
    by_rank = RankMask(np.zeros(8, np.int32), np.ones(8, np.float32))
    with pytest.raises(ValueError, match="rank of every element"):
        run(Job(target, replace(COPY, terms=(Term(1.0, by_rank=by_rank),))))


def test_compiled_code_keeps_the_arithmetic_and_moves_16_bytes_at_a_time():
    # the interpreter takes more than the compiler does: compile for a GPU, which needs none
    script = Path(__file__).with_name("compile_gpu.py")
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "0"}
    )
    assert done.returncode == 0, done.stderr
    for kind, found in json.loads(done.stdout).items():
        assert found["fused"] == found["flushing"] == found["approximate_divisions"] == 0, kind
        assert found["wide_loads"] >= found["tensors"], kind
        assert found["wide_stores"] >= (found["tensors"] > 0), kind
