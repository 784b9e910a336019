import numpy as np
import pytest
import torch

from evomerge.merging.methods.slices import Slices


def _matrix(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (rows, columns)).astype(np.float32)


def _span(matrix: np.ndarray):
    flat = torch.from_numpy(matrix.reshape(-1))
    return lambda first, last: flat[first:last]


def _added_up(values: np.ndarray, axis: int) -> np.ndarray:
    """The sum, one after the other: numpy's own adds in pairs."""
    return np.cumsum(values, axis=axis).take(-1, axis=axis)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 3), (300, 257), (1, 70_000), (70_000, 1)])
@pytest.mark.parametrize("of_rows", [True, False])
def test_dot_products_are_those_of_the_slices_added_in_order(rows: int, columns: int, of_rows: bool) -> None:
    x, y = _matrix(rows, columns, 0), _matrix(rows, columns, 1)
    slices = Slices(rows * columns, columns, rows=of_rows)
    dots = slices.dots([_span(x), _span(y)])
    assert dots.shape == ((rows if of_rows else columns), 2, 2)
    for i, a in enumerate((x, y)):
        for j, b in enumerate((x, y)):
            products = a.astype(np.float64) * b.astype(np.float64)
            if of_rows:  # eight sums, of every eighth element
                eight = np.zeros((rows, 8 * (-(-columns // 8))))
                eight[:, :columns] = products
                products = _added_up(eight.reshape(rows, -1, 8), axis=1).T
            assert np.array_equal(dots[:, i, j], _added_up(products, axis=0))


@pytest.mark.parametrize("of_rows", [True, False])
def test_spread_gives_each_element_its_slice_value(of_rows: bool) -> None:
    slices = Slices(12, 4, rows=of_rows)
    values = torch.arange(slices.count, dtype=torch.float32)
    expected = (values[:, None] if of_rows else values[None, :]).expand(3, 4).reshape(-1)
    assert torch.equal(torch.cat([slices.spread(values, a, b) for a, b in ((0, 5), (5, 6), (6, 12))]), expected)


def test_no_elements_are_no_slices() -> None:
    assert Slices(0, 0, rows=True).dots([_span(_matrix(0, 3, 0))]).shape == (0, 1, 1)
