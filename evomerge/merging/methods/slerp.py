"""Slerp: from one tensor to another along the arc between them (Shoemake, "Animating rotation", SIGGRAPH 1985).

With mergekit's bounds: the tensor is one vector, its length is not normalised, nearly parallel and nearly opposite
tensors (|cos| above 0.9995) are interpolated linearly, and a tensor of zeros counts as orthogonal.
"""

import math

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum

_NEARLY_PARALLEL = 0.9995
# A norm this small counts as 1.
_SMALL_NORM = 1e-8


def arc(t: float, cosine: float) -> tuple[float, float]:
    """Return the coefficients of two vectors at t of the way along the arc between them; |cosine| is below 1."""
    angle = math.acos(cosine)
    return math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle)


class Slerp(Method):
    """With angle theta: sin((1 - t) theta) / sin(theta) A + sin(t theta) / sin(theta) C.

    One expert: A is the base, C the expert. Two experts: A is the first by label, C the second; the base has no part.
    """

    name = "slerp"
    meaning = "along the arc from the base to the one expert, or from the first of two experts to the second"
    parameters = ()
    options = (Parameter("t", "how far along: 0 is the start, 1 the end", low=0.0, high=1.0),)
    experts = (1, 2)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        gram = operands.statistics.gram()
        one = len(operands.experts) == 1
        a, c = (0, 1) if one else (1, 2)
        norms = [norm if norm > _SMALL_NORM else 1.0 for norm in (math.sqrt(gram[a, a]), math.sqrt(gram[c, c]))]
        cosine = min(max(float(gram[a, c]) / norms[0] / norms[1], -1.0), 1.0)
        t = settings.number("t")
        start, end = (1.0 - t, t) if abs(cosine) > _NEARLY_PARALLEL else arc(t, cosine)
        terms = (Term(end),) if one else (Term(start), Term(end))
        return WeightedSum(terms, task_vectors=False, base_weight=start if one else 0.0)
