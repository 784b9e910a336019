"""Parameters that several methods share, and the plain numbers that follow from them.

This file knows nothing about tensors.
"""

import math

from evomerge.merging.methods.base import Parameter

#: Factors and products of large numbers are clipped to it, so that no infinity meets a 0 or another infinity.
LARGEST = 1e37
# A sum this small says that the weights cancel out, as mergekit has it.
_SMALL_SUM = 1e-8

WEIGHT = Parameter("weight", "factor of the expert")
LAMBDA = Parameter("lambda", "factor of the summed task vectors", default=1.0)
DROP_AT_RANDOM = Parameter("drop_rate", "share of the task vector dropped at random", default=0.0, low=0.0, high=1.0)
DROP_SMALL = Parameter("drop_rate", "share of the task vector dropped, smallest first", default=0.0, low=0.0, high=1.0)
ELECT = Parameter(
    "elect",
    "whose sum decides an element's sign: the task vectors times their weights (weighted) or as they are (unweighted)",
    default="weighted",
    choices=("weighted", "unweighted"),
)


def normalize(default: bool) -> Parameter:
    """Return the option `normalize` with a method's own default."""
    return Parameter("normalize", "divide by the sum of the weights", default=default, choices=(True, False))


def rescale(default: str) -> Parameter:
    """Return the option `rescale` with a method's own default."""
    return Parameter(
        "rescale",
        "what makes up for dropped elements: inv_keep (1 / keep probability) or l1 (the tensor's L1 norm is restored)",
        default=default,
        choices=("inv_keep", "l1"),
    )


def density(drop_rate: float) -> float:
    """Return mergekit's density, 1 - drop_rate, without the noise of the subtraction (1 - 0.9 is 0.1)."""
    return round(1.0 - drop_rate, 12)


def cancel(weights: list[float]) -> bool:
    """Return whether the weights sum to nothing that one could divide by."""
    return abs(math.fsum(weights)) < _SMALL_SUM


def normalized(weights: list[float]) -> list[float]:
    """Return the weights divided by their sum; as they are where they cancel out."""
    return weights if cancel(weights) else [weight / math.fsum(weights) for weight in weights]
