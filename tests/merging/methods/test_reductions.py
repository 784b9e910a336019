import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from evomerge.merging.methods.reductions import exact_sum, kth_largest, kth_largest_of_many, peak, spans


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
def test_kth_largest_over_several_blocks_and_ties(dtype: torch.dtype, k: int) -> None:
    tensor = _magnitudes(600_000, dtype=dtype)
    assert kth_largest(_span(tensor), tensor.numel(), k) == float(tensor.sort(descending=True).values[k - 1])


def test_kth_largest_of_subnormals() -> None:
    tensor = torch.tensor([0.0, 1e-45, 3e-45, 1e-39])
    assert [kth_largest(_span(tensor), 4, k) for k in (1, 2, 3, 4)] == sorted(tensor.tolist(), reverse=True)


@pytest.mark.parametrize("k", [1, 7, 40_000, 70_010])
def test_kth_largest_of_several_tensors_is_that_of_all_together(k: int) -> None:
    tensors = [_magnitudes(n, seed) for seed, n in enumerate((10, 40_000, 30_000))]
    expected = float(torch.cat(tensors).sort(descending=True).values[k - 1])
    assert kth_largest_of_many([(_span(tensor), tensor.numel()) for tensor in tensors], k) == expected


@given(st.integers(0, 3000), st.floats(-60, 60))
@settings(max_examples=30)
def test_sum_is_close_to_the_true_one(n: int, exponent: float) -> None:
    tensor = _magnitudes(n) * 2.0**exponent
    assert exact_sum(_span(tensor), n) == pytest.approx(math.fsum(tensor.tolist()), rel=1e-14)


def test_sum_is_the_same_in_any_order() -> None:
    tensor = _magnitudes(100_001) - 1.0
    shuffled = tensor[torch.from_numpy(np.random.default_rng(0).permutation(len(tensor)))]
    assert exact_sum(_span(tensor), len(tensor)) == exact_sum(_span(shuffled), len(tensor))


def test_peak_is_the_largest_magnitude() -> None:
    assert peak(_span(torch.tensor([1.0, -3.0, 2.0])), 3) == 3.0
    assert peak(_span(torch.empty(0)), 0) == 0.0


@given(st.integers(0, 100), st.integers(1, 20))
def test_spans_are_the_whole(size: int, length: int) -> None:
    assert [i for first, last in spans(size, length) for i in range(first, last)] == list(range(size))
