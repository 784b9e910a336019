"""exp in float32 by additions and multiplications alone: the libraries' own differ in the last bit.

They differ between devices, processors, and the middle and the end of a block; this one cannot.
"""

import math

import torch

_LOG2_E = math.log2(math.e)
# ln 2 in two parts, the first with so few bits that its product with a small whole number is exact.
_LN2_HIGH = 0.693359375
_LN2_LOW = math.log(2.0) - _LN2_HIGH
_TAYLOR = tuple(1.0 / math.factorial(i) for i in range(7, -1, -1))


def exponential(x: torch.Tensor) -> torch.Tensor:
    """Return e^x of float32 numbers, with a relative error below 3e-7; x is clipped to [-87, 88]: a new tensor."""
    x = x.clamp(-87.0, 88.0)
    power = torch.floor(x * _LOG2_E + 0.5)
    rest = (x - power * _LN2_HIGH) - power * _LN2_LOW
    result = torch.full_like(rest, _TAYLOR[0])
    for coefficient in _TAYLOR[1:]:
        result = result * rest + coefficient
    # 2^power, made of its bits
    return result * ((power.to(torch.int32) + 127) << 23).view(torch.float32)
