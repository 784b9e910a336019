"""Karcher: the point of the sphere with the least squared distance to the experts' directions (2603.04972).

The Riemannian centre of mass (Karcher, 1977), found by stepping along the mean of the tangent vectors, at the mean of
the experts' lengths; rules and bounds are mergekit's. Every iterate is a linear combination of the experts, so that its
coefficients and the experts' dot products are all there is to compute with. The base has no part.
"""

import math

import numpy as np
import numpy.typing as npt

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.combinations import dot, norm, norms

_STEPS = Parameter("max_iter", "the most steps to take", default=10.0, low=0.0, high=1000.0)
_TOLERANCE = Parameter("tol", "norms and angles below it count as zero", default=1e-5, low=1e-12, high=1.0)


class Karcher(Method):
    """(mean of |X_i|) m, m the Karcher mean of the X_i / |X_i|; all experts count alike.

    Experts with a norm of at most `tol` have no direction. One opposite to an iterate has no shortest way to it and
    does not pull. Where the directions cancel out, the first one is the start. One expert is itself.
    """

    name = "karcher"
    meaning = "Karcher mean of the experts' directions, at the mean of their lengths"
    parameters = ()
    options = (_STEPS, _TOLERANCE)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        coefficients = [1.0]
        if len(operands.experts) > 1:
            gram = operands.statistics.gram()[1:, 1:]
            coefficients = _mean(gram, int(settings.number("max_iter")), settings.number("tol"))
        return WeightedSum(tuple(Term(c) for c in coefficients), task_vectors=False, base_weight=0.0)


def _mean(gram: npt.NDArray[np.float64], steps: int, tolerance: float) -> list[float]:
    """Return the coefficients of the scaled Karcher mean of vectors, from their dot products."""
    lengths = norms(gram)
    valid = [i for i, length in enumerate(lengths) if length > tolerance]
    if not valid:
        return [0.0] * len(lengths)
    inverse = np.array([1.0 / length if length > tolerance else 0.0 for length in lengths])
    units = gram * inverse[:, None] * inverse[None, :]
    share = 1.0 / len(valid)
    mean = [share if i in valid else 0.0 for i in range(len(lengths))]
    if norm(mean, units) < tolerance:
        mean = [float(i == valid[0]) for i in range(len(lengths))]
    mean = _scaled(mean, 1.0 / norm(mean, units))
    for _ in range(steps):
        tangent = [0.0] * len(lengths)
        for i in valid:
            cosine = min(max(dot(mean, [float(i == j) for j in range(len(lengths))], units), -1.0), 1.0)
            angle = math.acos(cosine)
            if angle < tolerance or math.pi - angle < tolerance:
                continue
            pull = share * angle / math.sin(angle)
            tangent = [
                t + pull * (float(i == j) - cosine * m) for j, (t, m) in enumerate(zip(tangent, mean, strict=True))
            ]
        step = norm(tangent, units)
        if step < tolerance:
            break
        along = math.sin(step) / step
        mean = [math.cos(step) * m + along * t for m, t in zip(mean, tangent, strict=True)]
        mean = _scaled(mean, 1.0 / max(norm(mean, units), tolerance))
    scale = math.fsum(lengths) / len(lengths)
    return [scale * m * float(r) for m, r in zip(mean, inverse, strict=True)]


def _scaled(vector: list[float], factor: float) -> list[float]:
    return [x * factor for x in vector]
