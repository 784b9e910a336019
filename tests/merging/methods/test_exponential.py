import numpy as np
import torch

from evomerge.merging.methods.exponential import exponential


def test_is_e_to_the_x() -> None:
    x = torch.linspace(-86.9, 87.9, 200_001)
    expected = np.exp(x.double().numpy())
    np.testing.assert_allclose(exponential(x).double().numpy(), expected, rtol=3e-7)
    assert exponential(torch.tensor([0.0])).item() == 1.0


def test_is_clipped_to_finite_numbers_above_zero() -> None:
    x = torch.tensor([-1e30, -100.0, 100.0, 1e30])
    values = exponential(x)
    assert bool((torch.isfinite(values) & (values > 0)).all())


def test_has_the_same_bits_in_any_block_and_rises() -> None:
    x = torch.linspace(-5, 5, 4099)
    whole = exponential(x)
    for length in (1, 3, 7, 1024):
        assert torch.equal(torch.cat([exponential(part) for part in x.split(length)]), whole)
    assert bool((whole.diff() >= 0).all())
