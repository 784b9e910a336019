import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.merging.kernels import sums

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(FLOATS, min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_a_sum_does_not_depend_on_order_and_is_nearly_exact(values: list[float], random: object) -> None:
    x = np.array(values, np.float32)
    peak = float(sums.peak(x))
    assert peak == np.abs(x).max()
    scale = sums.scale_of(peak, x.size)
    total = int(sums.fixed_sum(x, scale))
    order = np.arange(x.size)
    random.shuffle(order)  # type: ignore[attr-defined]
    cut = x.size // 2
    assert int(sums.fixed_sum(x[order][:cut], scale)) + int(sums.fixed_sum(x[order][cut:], scale)) == total
    assert abs(total) < 1 << 63
    assert total / scale == pytest.approx(math.fsum(values), rel=1e-14, abs=2.0**-60 * x.size**2 * peak + 1e-300)


def test_the_largest_of_everything_does_not_overflow() -> None:
    x = np.full(1 << 16, np.finfo(np.float32).max, np.float32)
    scale = sums.scale_of(float(x[0]), x.size)
    assert int(sums.fixed_sum(x, scale)) / scale == pytest.approx(float(x[0]) * x.size)
    scale = sums.scale_of(float(x[0]) ** 2, x.size)
    assert int(sums.fixed_dot(x, x, scale)) / scale == pytest.approx(float(x[0]) ** 2 * x.size)


def test_nothing_and_zeros() -> None:
    assert sums.peak(np.zeros(0, np.float32)) == 0
    assert sums.fixed_sum(np.zeros(5, np.float32), sums.scale_of(0.0, 5)) == 0


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_dot_products(values: list[float]) -> None:
    x = np.array(values, np.float32)
    y = x[::-1].copy()
    peak = float(np.abs(x).max()) ** 2
    scale = sums.scale_of(peak, x.size)
    exact = math.fsum(float(a) * float(b) for a, b in zip(x, y, strict=True))
    assert int(sums.fixed_dot(x, y, scale)) / scale == pytest.approx(
        exact, rel=1e-14, abs=2.0**-60 * x.size**2 * peak + 1e-300
    )


def test_histograms_count_every_number_once() -> None:
    x = np.abs(np.random.default_rng(0).standard_normal(5000).astype(np.float32))
    upper = np.zeros(1 << 15, np.int64)
    sums.count_upper(x, upper)
    assert upper.sum() == 5000
    bits = x.view(np.uint32)
    assert (upper == np.bincount(bits >> 16, minlength=1 << 15)).all()
    lower = np.zeros(1 << 16, np.int64)
    sums.count_lower(x, np.uint32(bits[0] >> 16), lower)
    chosen = bits[bits >> 16 == bits[0] >> 16]
    assert (lower == np.bincount(chosen & 0xFFFF, minlength=1 << 16)).all()
