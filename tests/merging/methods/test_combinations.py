import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evomerge.merging.methods.combinations import dot, norm, norms

_VECTORS = np.random.default_rng(0).normal(0, 1, (3, 7))
_GRAM = _VECTORS @ _VECTORS.T
_COEFFICIENTS = st.lists(st.floats(-10, 10), min_size=3, max_size=3)


@given(_COEFFICIENTS, _COEFFICIENTS)
def test_lengths_and_products_are_those_of_the_combined_vectors(a: list[float], b: list[float]) -> None:
    x, y = np.array(a) @ _VECTORS, np.array(b) @ _VECTORS
    assert dot(a, b, _GRAM) == pytest.approx(float(x @ y), abs=1e-10)
    assert norm(a, _GRAM) == pytest.approx(float(np.linalg.norm(x)), abs=1e-6)


def test_norms() -> None:
    assert norms(_GRAM) == pytest.approx(np.linalg.norm(_VECTORS, axis=1).tolist())


def test_a_length_is_never_the_root_of_a_negative_number() -> None:
    gram = np.array([[1.0, -1.0 - 1e-15], [-1.0 - 1e-15, 1.0]])
    assert norm([1.0, 1.0], gram) == 0.0
