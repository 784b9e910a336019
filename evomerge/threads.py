"""Linear algebra on one thread: small sums are quicker so, and their last bits do not depend on the processors.

This file knows nothing about what is computed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np  # noqa: F401 - what is not loaded is not found
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController


@contextmanager
def one_thread() -> Iterator[None]:
    """Let the BLAS libraries of NumPy and SciPy work on one thread, whoever calls them in this process."""
    with _libraries().limit(limits=1, user_api="blas"):
        yield


@lru_cache
def _libraries() -> ThreadpoolController:
    """Find the libraries once: it takes a hundred times as long as setting their threads."""
    return ThreadpoolController()
