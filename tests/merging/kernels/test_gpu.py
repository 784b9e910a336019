"""The GPU's kernel gives the bits of the CPU's: on a GPU where there is one, else in Triton's interpreter."""

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton comes with builds of torch for GPUs")

import triton
import triton.language as tl

from evomerge.merging import fingerprint, mask
from evomerge.merging.kernels import gpu, gpu_kernel
from evomerge.merging.kernels.gpu import Job, Shape, weighted_sums
from evomerge.merging.methods.base import Operands, RankMask, Term, WeightedSum
from evomerge.merging.tensors import PlannedTensor, merge_span
from tests.merging.methods import oracle

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SMALL = Shape(tile=256, warps=1, tiles=3)


class Held:
    def __init__(self, elements: torch.Tensor) -> None:
        self.elements = elements

    def read(self, first: int, last: int) -> torch.Tensor:
        return self.elements[first:last]


class Case:
    """A random plan and its tensors, on the CPU."""

    def __init__(
        self,
        seed: int,
        *,
        size: int | None = None,
        experts: int | None = None,
        dtype: torch.dtype | None = None,
        **plan: Any,
    ) -> None:
        r = self.random = np.random.default_rng(seed)
        self.name = f"tensor.{seed}"
        self.columns = int(r.integers(1, 90))
        self.size = size or self.columns * int(r.integers(1, 30))
        count = experts or int(r.integers(1, 5))
        self.base = self.tensor(1.0, r.choice(3))
        self.experts = [(self.base.float() + self.tensor(0.1, 2)).to(DTYPES[r.choice(3)]) for _ in range(count)]
        self.ranks = [self.ranks_of(x) for x in self.experts]
        self.keys = tuple(int(key) for key in r.integers(0, 2**64, count, np.uint64, endpoint=False))
        self.dtype = dtype or DTYPES[r.choice(3)]
        tv = bool(r.choice(2)) if "task_vectors" not in plan else plan["task_vectors"]
        if "base_weight" in WeightedSum.__dataclass_fields__:
            plan["base_weight"] = float(tv)
        self.plan = WeightedSum(
            **{
                "terms": tuple(self.term() for _ in range(count)),
                "task_vectors": tv,
                "elect": str(r.choice(["none", "weighted", "unweighted"])),
                "divide_by_agreeing": bool(r.choice(2)),
                "factor": float(r.choice([1.0, 1.7])),
                **plan,
            }
        )

    def tensor(self, spread: float, dtype: int) -> torch.Tensor:
        values = self.random.standard_normal(self.size) * spread
        values[self.random.random(self.size) < 0.02] = 0.0
        values[self.random.random(self.size) < 0.02] *= 1e-40
        return torch.from_numpy(values.astype(np.float32)).to(DTYPES[dtype])

    def ranks_of(self, x: torch.Tensor) -> torch.Tensor:
        # any ranks do: the kernel only looks them up
        drawn = self.random.integers(0, self.columns, self.size)
        return torch.from_numpy(drawn.astype(self.random.choice([np.uint16, np.int32])))

    def term(self) -> Term:
        r = self.random
        by_rank = RankMask(
            r.choice(np.array([0, 1, 30000, 65535, 65536], np.int32), self.columns),
            r.random(self.columns, np.float32) + np.float32(1),
        )
        rate = r.choice([0.0, 1e-5, 0.5, 0.9, 1.0])
        return Term(
            weight=float(r.choice([0.0, 1.0, -0.7, r.random()])),
            threshold=mask.threshold(rate),
            at_least=float(r.choice([0.0, 0.05])),
            at_most=float(r.choice([math.inf, 0.15])),
            factor=float(r.choice([1.0, 1.0 / (1.0 - min(rate, 0.95))])),
            by_rank=by_rank if rate == 0.5 and r.random() < 0.7 else None,
        )

    def job(self, *, widened: bool = False, shift: int = 0) -> Job:
        """Return the job on the device; `shift` moves every tensor off by so many elements."""

        def put(tensor: torch.Tensor) -> torch.Tensor:
            whole = torch.zeros(self.size + 16, dtype=tensor.dtype, device=DEVICE)
            whole[shift : shift + self.size] = tensor
            return whole[shift : shift + self.size]

        out = torch.full((self.size,), 7.0, dtype=torch.float32 if widened else self.dtype)
        ranks = [put(r) if t.by_rank else None for r, t in zip(self.ranks, self.plan.terms, strict=True)]
        return Job(
            self.name, self.plan, self.dtype, put(self.base), [put(x) for x in self.experts], put(out), self.keys, ranks
        )

    def from_oracle(self) -> torch.Tensor:
        numbers = [mask.uniforms(key, 0, self.size) for key in self.keys]
        return oracle.weighted_sum(self.plan, self.base, self.experts, numbers, self.ranks).to(self.dtype)

    def from_cpu(self) -> tuple[torch.Tensor, int]:
        operands = Operands(
            name=self.name,
            shape=(self.size,),
            labels=tuple(str(i) for i in range(len(self.experts))),
            base=Held(self.base),
            experts=tuple(Held(x) for x in self.experts),
            statistics=None,  # type: ignore[arg-type]
            uniforms=lambda e, first, last: mask.uniforms(self.keys[e], first, last),
            ranks=lambda e, first, last: self.ranks[e][first:last],
        )
        out = torch.empty(self.size, dtype=self.dtype)
        return out, merge_span(PlannedTensor(operands, self.plan, self.dtype, self.keys), 0, self.size, out)


def same_bits(x: torch.Tensor, y: torch.Tensor) -> bool:
    return x.dtype == y.dtype and bool((fingerprint.bit_words(x) == fingerprint.bit_words(y)).all())


def check(case: Case, job: Job, result: tuple[int, bool]) -> None:
    expected, value = case.from_cpu()
    assert same_bits(expected, case.from_oracle()), "CPU and oracle differ"
    if job.out.dtype != case.dtype:
        assert same_bits(job.out.to(case.dtype), expected)
        assert same_bits(job.out.cpu(), expected.float())
    else:
        assert same_bits(job.out, expected)
    assert result == (value, True)


@triton.jit
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


@pytest.mark.parametrize("seed", range(60))
def test_bits_and_fingerprint_are_those_of_the_cpu(seed):
    case = Case(seed)
    job = case.job(shift=seed % 3)
    [result] = weighted_sums([job], shape=SMALL).results()
    check(case, job, result)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_float32_parameters_hold_the_rounded_values(dtype):
    case = Case(100, size=1000, dtype=dtype)
    job = case.job(widened=True)
    [result] = weighted_sums([job], shape=SMALL).results()
    check(case, job, result)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 255, 256, 264, 769, 2048])
def test_any_size(size):
    case = Case(200 + size, size=size, experts=2)
    job = case.job()
    [result] = weighted_sums([job], shape=SMALL).results()
    check(case, job, result)


def test_many_tensors_in_one_call_are_each_merged_with_their_own_numbers():
    # three kinds of plan, mixed: three launches
    kinds: list[dict[str, Any]] = [{"elect": "none"}, {"elect": "weighted"}, {"elect": "none", "task_vectors": True}]
    cases = [Case(300 + i, size=8 * (5 + 13 * i), experts=2, dtype=torch.bfloat16, **kinds[i % 3]) for i in range(12)]
    jobs = [case.job() for case in cases]
    for case, job, result in zip(cases, jobs, weighted_sums(jobs, shape=SMALL).results(), strict=True):
        check(case, job, result)


@pytest.mark.parametrize("shape", [Shape(), Shape(tile=128, warps=1, tiles=1), Shape(programs=1)], ids=str)
def test_the_division_of_the_work_does_not_matter(shape):
    case = Case(400, size=2600, experts=2)
    job = case.job()
    [result] = weighted_sums([job], shape=shape).results()
    check(case, job, result)


def test_a_tensor_may_be_merged_in_pieces():
    terms = (Term(0.7, threshold=20000, factor=1.5), Term(-0.4, threshold=40000, factor=2.5))
    case = Case(500, size=1000, experts=2, terms=terms)
    whole = case.job()

    def piece(first: int, last: int) -> Job:
        experts = [x[first:last] for x in whole.experts]
        base = None if whole.base is None else whole.base[first:last]
        return Job(case.name, case.plan, case.dtype, base, experts, whole.out[first:last], case.keys, first=first)

    results = weighted_sums([piece(0, 304), piece(304, 1000)], shape=SMALL).results()
    check(case, whole, (fingerprint.combine(*(value for value, _ in results)), all(fine for _, fine in results)))


def test_elements_far_into_a_tensor_have_their_own_numbers():
    # beyond 2^35 elements the Philox block takes more than 32 bits
    terms = (Term(1.0, threshold=32768, factor=2.0),)
    base, expert, out = torch.zeros(64), torch.ones(64), torch.zeros(64)
    first, key = (1 << 35) + 800, 12345678901234567890
    plan = WeightedSum(terms)
    on = [tensor.to(DEVICE) for tensor in (base, expert, out)]
    [result] = weighted_sums(
        [Job("far", plan, torch.float32, on[0], [on[1]], on[2], [key], first=first)], shape=SMALL
    ).results()
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
def test_what_is_not_finite_is_found_in_its_tensor(value, dtype):
    spoilt = torch.ones(1000)
    spoilt[777] = value
    jobs = []
    for values in (torch.ones(1000), spoilt, torch.ones(1000)):
        out = torch.empty(1000, dtype=dtype, device=DEVICE)
        jobs.append(Job("t", gpu.COPY, dtype, None, [values.to(DEVICE)], out))
    results = weighted_sums(jobs, shape=SMALL).results()
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
    [result] = weighted_sums([Job("t", gpu.COPY, dtype, None, [values.to(DEVICE)], out)], shape=SMALL).results()
    assert same_bits(out, values.to(dtype))
    assert result == (fingerprint.fingerprint("t", values.to(dtype)), True)


def test_jobs_that_do_not_fit_together_are_refused():
    x = torch.zeros(8, device=DEVICE)
    with pytest.raises(ValueError, match="of one size"):
        weighted_sums([Job("t", gpu.COPY, torch.float32, None, [x[:4]], x)])
    with pytest.raises(ValueError, match="needs the base"):
        weighted_sums([Job("t", WeightedSum((Term(1.0),)), torch.float32, None, [x], x)])
    with pytest.raises(ValueError, match="keys"):
        weighted_sums([Job("t", WeightedSum((Term(1.0, threshold=5),)), torch.float32, x, [x], x)])
    with pytest.raises(ValueError, match="not possible"):
        weighted_sums([Job("t", gpu.COPY, torch.float32, None, [x], x, first=4)])


def test_compiled_code_keeps_the_arithmetic_and_moves_16_bytes_at_a_time():
    # the interpreter takes more than the compiler does: compile for a GPU, which needs none
    script = Path(__file__).with_name("compile_gpu.py")
    environment = {"TRITON_INTERPRET": "0"}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env={**__import__("os").environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    for kind, found in json.loads(done.stdout).items():
        assert found["fused"] == found["flushing"] == found["spilled"] == 0, kind
        assert found["wide_loads"] == found["tensors"], kind
        assert found["wide_stores"] == 1, kind
        assert found["approximate_divisions"] == 0, kind
