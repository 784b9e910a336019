import math

import numpy as np
import torch

from evomerge.merging.methods.exponential import exponential


def test_is_e_to_the_x() -> None:
    x = torch.linspace(-86.9, 87.9, 200_001)
    expected = np.exp(x.double().numpy())
    np.testing.assert_allclose(exponential(x.numpy()).astype(float), expected, rtol=3e-7)
    assert exponential(np.zeros(1, np.float32))[0] == 1.0


def test_is_clipped_to_finite_numbers_above_zero() -> None:
    x = torch.tensor([-1e30, -100.0, 100.0, 1e30])
    values = exponential(x.numpy())
    assert (np.isfinite(values) & (values > 0)).all()


def test_has_the_same_bits_in_any_block_and_rises() -> None:
    x = torch.linspace(-5, 5, 4099)
    whole = exponential(x.numpy())
    for length in (1, 3, 7, 1024):
        assert (np.concatenate([exponential(part.numpy()) for part in x.split(length)]) == whole).all()
    assert (np.diff(whole) >= 0).all()


def test_every_product_and_sum_is_rounded_by_itself() -> None:
    """numpy never fuses them; a compiler might."""
    one = np.float32(1)
    x = np.linspace(-80, 80, 10_007, dtype=np.float32)
    power = np.floor(x * np.float32(math.log2(math.e)) + np.float32(0.5))
    r = (x - power * np.float32(0.693359375)) - power * np.float32(math.log(2.0) - 0.693359375)
    e = np.full_like(r, np.float32(1 / math.factorial(7)))
    for i in range(6, 1, -1):
        e = e * r + np.float32(1 / math.factorial(i))
    e = (e * r + one) * r + one
    assert (exponential(x) == np.ldexp(e, power.astype(int)).astype(np.float32)).all()
