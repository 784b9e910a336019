"""The compiled loops against what a plan means, bit for bit."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from evomerge.merging.kernels import cpu
from evomerge.merging.methods import Term
from tests.merging.methods.oracle import weighted_sum
from tests.merging.methods.plans import LABELS, NAME, Case, random_case

_ELECT = {"none": cpu.NO_ELECTION, "weighted": cpu.WEIGHTED, "unweighted": cpu.UNWEIGHTED}


def _stored(tensor: torch.Tensor) -> torch.Tensor:
    """float16 is widened before it reaches the loops."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def _storage(tensor: torch.Tensor) -> int:
    return cpu.BFLOAT16 if tensor.dtype == torch.bfloat16 else cpu.FLOAT32


def _execute(
    case: Case, first: int = 0, last: int | None = None, *, out_storage: int = cpu.AS_UNROUNDED
) -> torch.Tensor:
    """Run the kernel on elements first .. last - 1."""
    plan, last = case.plan, case.base.numel() if last is None else last
    held: list[torch.Tensor | np.ndarray] = []

    def address(tensor: torch.Tensor, offset: int = first) -> int:
        held.append(tensor)
        return tensor.data_ptr() + offset * tensor.element_size()

    def term_record(i: int, term: Term) -> tuple[object, ...]:
        model = _stored(case.experts[i])
        key = hashlib.sha256(f"{case.seed}/{LABELS[i]}/{NAME}".encode()).digest()[:8]
        by_rank: tuple[int, ...] = (0, 0, 0, 0, 0)
        if term.by_rank is not None:
            held.append(term.by_rank.thresholds)
            held.append(term.by_rank.factors)
            by_rank = (
                address(case.ranks[i]),
                case.ranks[i].element_size(),
                term.by_rank.thresholds.ctypes.data,
                term.by_rank.factors.ctypes.data,
                len(term.by_rank.thresholds),
            )
        numbers = (term.weight, term.factor, term.at_least, term.at_most, term.threshold)
        return (address(model), _storage(model), *numbers, int.from_bytes(key, "little"), *by_rank)

    terms = np.array([term_record(i, term) for i, term in enumerate(plan.terms)], cpu.TERM)
    base = _stored(case.base)
    out = torch.empty(last - first, dtype=torch.bfloat16 if out_storage == cpu.AS_BFLOAT16 else torch.float32)
    record = np.array(
        (
            address(base),
            _storage(base),
            plan.task_vectors,
            plan.base_weight,
            _ELECT[plan.elect],
            plan.divide_by_agreeing,
            plan.divisor,
            plan.factor,
            address(out, 0),
            out_storage,
            0,
            first,
            last - first,
        ),
        cpu.SUM,
    )
    cpu.weighted_sum(record[()], terms)
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
    assert {(plan.task_vectors, plan.base_weight != 0) for plan in plans} == {(a, b) for a in (0, 1) for b in (0, 1)}
    assert any(term.by_rank for term in terms)
    assert any(term.threshold == 65536 for term in terms)
    assert any(term.threshold and term.at_least > 0 for term in terms)


@pytest.mark.parametrize("seed", range(0, 40))
def test_a_span_has_the_bits_of_the_whole(seed: int) -> None:
    case = random_case(seed)
    whole = _expected(case)
    for first, last in ((0, 8), (8, 3000), (2048, 5117), (5112, 5117)):
        assert _same_bits(_execute(case, first, last), whole[first:last].clone())


@pytest.mark.parametrize("seed", range(0, 24))
def test_rounds_once_to_bfloat16(seed: int) -> None:
    case = random_case(seed)
    rounded = _expected(case).bfloat16()
    assert _same_bits(_execute(case, out_storage=cpu.AS_BFLOAT16), rounded)
    assert _same_bits(_execute(case, out_storage=cpu.AS_WIDENED), rounded.float())


def test_ranks_of_long_rows_are_wider() -> None:
    case = next(c for c in map(random_case, range(200)) if any(term.by_rank for term in c.plan.terms))
    wide = replace(case, ranks=tuple(ranks.to(torch.int32) for ranks in case.ranks))
    assert _same_bits(_execute(wide), _expected(case))
