"""exp in float32 by additions and multiplications alone: the libraries' own differ in the last bit.

They differ between devices, processors, and the middle and the end of a block; this one cannot.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.compiled import as_float32, compiled

_LOG2_E = np.float32(math.log2(math.e))
# ln 2 in two parts, the first with so few bits that its product with a small whole number is exact.
_LN2_HIGH = np.float32(0.693359375)
_LN2_LOW = np.float32(math.log(2.0) - 0.693359375)
_C7, _C6, _C5, _C4, _C3, _C2 = (np.float32(1.0 / math.factorial(i)) for i in range(7, 1, -1))
_ONE = np.float32(1)


@compiled
def exp(x: Any) -> Any:
    """Return e^x of a float32, with a relative error below 3e-7; x is clipped to [-87, 88]. In compiled loops only."""
    v = min(max(x, np.float32(-87)), np.float32(88))
    power = np.floor(v * _LOG2_E + np.float32(0.5))
    r = (v - power * _LN2_HIGH) - power * _LN2_LOW
    e = ((((((_C7 * r + _C6) * r + _C5) * r + _C4) * r + _C3) * r + _C2) * r + _ONE) * r + _ONE
    # 2^power, made of its bits
    return e * as_float32(np.uint32((np.int32(power) + np.int32(127)) << np.int32(23)))


@compiled
def exponential(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return `exp` of each element: a new array."""
    out = np.empty(x.size, np.float32)
    for i in range(x.size):
        out[i] = exp(x[i])
    return out
