import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.methods import reductions
from evomerge.merging.methods.reductions import blocked_sum, kth_largest


def _magnitudes(n: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, generator=torch.Generator().manual_seed(seed)).to(dtype).float().abs()


def _span(tensor: torch.Tensor):
    return lambda first, last: tensor[first:last].clone()


@given(st.lists(st.floats(0, 2.0**100, width=32), min_size=1, max_size=300), st.data())
def test_kth_largest_is_exact(values: list[float], data: st.DataObject) -> None:
    k = data.draw(st.integers(1, len(values)))
    tensor = torch.tensor(values, dtype=torch.float32)
    assert kth_largest(_span(tensor), len(values), k) == sorted(tensor.tolist(), reverse=True)[k - 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("k", [1, 2, 300_000, 599_999, 600_000])
def test_kth_largest_over_several_strides_and_ties(dtype: torch.dtype, k: int) -> None:
    tensor = _magnitudes(600_000, dtype=dtype)
    assert kth_largest(_span(tensor), tensor.numel(), k) == float(tensor.sort(descending=True).values[k - 1])


def test_kth_largest_of_subnormals() -> None:
    tensor = torch.tensor([0.0, 1e-45, 3e-45, 1e-39])
    assert [kth_largest(_span(tensor), 4, k) for k in (1, 2, 3, 4)] == sorted(tensor.tolist(), reverse=True)


@given(st.integers(0, 3000))
@settings(max_examples=30)
def test_sum_is_close_to_the_true_one(n: int) -> None:
    tensor = _magnitudes(n)
    assert blocked_sum(_span(tensor), n) == pytest.approx(math.fsum(tensor.tolist()), rel=1e-14)


def test_sum_has_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The definition, element by element: halves folded onto each other, blocks added in order."""
    monkeypatch.setattr(reductions, "STRIDE", 5)
    a, b, c, d, e, f, g = values = _magnitudes(7).tolist()
    expected = (((a + d) + (c)) + (b + e)) + (f + g)
    assert blocked_sum(_span(torch.tensor(values)), 7) == expected


def test_sum_does_not_change_with_threads() -> None:
    tensor = _magnitudes(700_001)
    before = torch.get_num_threads()
    try:
        sums = set()
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            sums.add(blocked_sum(_span(tensor), tensor.numel()))
    finally:
        torch.set_num_threads(before)
    assert len(sums) == 1
