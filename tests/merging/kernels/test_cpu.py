"""The compiled loops against what a plan means, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.merging.kernels import cpu
from evomerge.merging.mask import key_of
from tests.merging.methods.oracle import weighted_sum
from tests.merging.methods.plans import LABELS, NAME, Case, random_case

_ELECT = {"none": cpu.NO_ELECTION, "weighted": cpu.WEIGHTED, "unweighted": cpu.UNWEIGHTED}


def _execute(
    case: Case, first: int = 0, last: int | None = None, *, out_storage: int = cpu.AS_UNROUNDED
) -> torch.Tensor:
    """Run the kernel on elements first .. last - 1."""
    plan, last = case.plan, case.base.numel() if last is None else last
    held: list[torch.Tensor] = []

    def place(record: np.void, tensor: torch.Tensor, address: str, storage: str) -> None:
        held.append(tensor.float() if tensor.dtype == torch.float16 else tensor)
        record[address] = held[-1].data_ptr() + first * held[-1].element_size()
        record[storage] = cpu.BFLOAT16 if tensor.dtype == torch.bfloat16 else cpu.FLOAT32

    base_too = not plan.task_vectors and plan.base_weight != 0
    terms = np.zeros(len(plan.terms) + base_too, cpu.TERM)
    for i, term in enumerate(plan.terms):
        place(terms[i], case.experts[i], "address", "storage")
        for name in ("weight", "factor", "at_least", "at_most", "threshold"):
            terms[i][name] = getattr(term, name)
        terms[i]["key"] = key_of(case.seed, LABELS[i], NAME)
        if term.by_rank is not None:
            ranks = case.ranks[i]
            terms[i]["ranks"] = ranks.data_ptr() + first * ranks.element_size()
            terms[i]["rank_bytes"] = ranks.element_size()
            terms[i]["rank_thresholds"] = term.by_rank.thresholds.ctypes.data
            terms[i]["rank_factors"] = term.by_rank.factors.ctypes.data
            terms[i]["rank_count"] = len(term.by_rank.thresholds)
    if base_too:  # summed as the last of the models
        place(terms[-1], case.base, "address", "storage")
        terms[-1]["weight"], terms[-1]["factor"], terms[-1]["at_most"] = plan.base_weight, 1.0, np.inf
    out = torch.empty(last - first, dtype=torch.bfloat16 if out_storage == cpu.AS_BFLOAT16 else torch.float32)
    record = np.zeros(1, cpu.SUM)[0]
    for name in ("task_vectors", "divide_by_agreeing", "factor"):
        record[name] = getattr(plan, name)
    if plan.task_vectors:
        place(record, case.base, "base", "base_storage")
    record["elect"] = _ELECT[plan.elect]
    record["out"], record["out_storage"] = out.data_ptr(), out_storage
    record["first"], record["count"] = first, last - first
    cpu.weighted_sum(record, terms)
    return out


def _expected(case: Case) -> torch.Tensor:
    return weighted_sum(case.plan, case.base, case.experts, case.numbers, case.ranks)


def _same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and bytes(a.view(torch.uint8).numpy()) == bytes(b.view(torch.uint8).numpy())


@pytest.mark.parametrize("seed", range(120))
def test_equals_the_oracle_in_every_bit(seed: int) -> None:
    case = random_case(seed)
    assert _same_bits(_execute(case), _expected(case))


def test_the_random_plans_hold_all_that_a_plan_can_say() -> None:
    plans = [random_case(seed).plan for seed in range(120)]
    terms = [term for plan in plans for term in plan.terms]
    assert {plan.elect for plan in plans} == {"none", "weighted", "unweighted"}
    assert {(plan.task_vectors, plan.base_weight) for plan in plans} == {(True, 1.0), (False, 0.37), (False, 0.0)}
    assert any(term.by_rank for term in terms)
    assert any(term.threshold == 65536 for term in terms)
    assert any(term.threshold and term.at_least > 0 for term in terms)


@pytest.mark.parametrize("seed", range(40))
def test_a_span_has_the_bits_of_the_whole(seed: int) -> None:
    case = random_case(seed)
    whole = _expected(case)
    for first, last in ((0, 8), (8, 3000), (2048, 5117), (5112, 5117)):
        assert _same_bits(_execute(case, first, last), whole[first:last].clone())


@pytest.mark.parametrize("seed", range(24))
def test_rounds_once_to_bfloat16(seed: int) -> None:
    case = random_case(seed)
    rounded = _expected(case).bfloat16()
    assert _same_bits(_execute(case, out_storage=cpu.AS_BFLOAT16), rounded)
    assert _same_bits(_execute(case, out_storage=cpu.AS_WIDENED), rounded.float())


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (3, 3), (1, 2049), (4097, 1)])
@pytest.mark.parametrize("seed", range(12))
def test_any_size(seed: int, rows: int, columns: int) -> None:
    case = random_case(seed, rows=rows, columns=columns)
    assert _same_bits(_execute(case), _expected(case))
    assert _same_bits(_execute(case, out_storage=cpu.AS_BFLOAT16), _expected(case).bfloat16())


def test_ranks_of_long_rows_are_wider() -> None:
    case = next(c for c in map(random_case, range(200)) if any(term.by_rank for term in c.plan.terms))
    wide = replace(case, ranks=tuple(ranks.to(torch.int32) for ranks in case.ranks))
    assert _same_bits(_execute(wide), _expected(case))
