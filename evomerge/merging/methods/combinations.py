"""Linear combinations of tensors, known by their coefficients: lengths and dot products from those of the tensors.

Sums are exactly rounded, so that no library's order of additions shows. This file knows nothing about tensors.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def dot(a: Sequence[float], b: Sequence[float], gram: npt.NDArray[np.float64]) -> float:
    """Return the dot product of sum_i a_i x_i and sum_j b_j x_j, given gram[i, j], that of x_i and x_j."""
    return math.fsum(a[i] * b[j] * float(gram[i, j]) for i in range(len(a)) for j in range(len(b)))


def norm(a: Sequence[float], gram: npt.NDArray[np.float64]) -> float:
    """Return the length of sum_i a_i x_i."""
    return math.sqrt(max(dot(a, a, gram), 0.0))


def norms(gram: npt.NDArray[np.float64]) -> list[float]:
    """Return the lengths of the x_i."""
    return [math.sqrt(float(square)) for square in np.diag(gram)]
