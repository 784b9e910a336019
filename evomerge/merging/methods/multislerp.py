"""Multi-slerp: the weighted mean of several tensors' directions, at the weighted mean of their lengths (mergekit).

Its definition projects the directions u_i onto the tangent space of the sphere at their normalised weighted mean m,
takes the weighted mean there, and projects it back. That tangent mean is sum_i w_i (u_i - (u_i . m) m) = 0, whatever
the inputs, since sum_i w_i u_i is parallel to m; what is left is m. So the merged tensor is a linear combination.
"""

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.combinations import norm, norms
from evomerge.merging.methods.parameters import WEIGHT, cancel, normalized

_NORMALIZE = Parameter("normalize_weights", "divide the weights by their sum", default=True, choices=(True, False))
_EPS = Parameter("eps", "what keeps divisors from zero", default=1e-8, low=1e-12, high=1.0)
_TASK_VECTORS = Parameter(
    "task_vectors",
    "of the task vectors, added to the base; otherwise of the tensors",
    default=False,
    choices=(True, False),
)


class MultiSlerp(Method):
    """(sum_i w_i |X_i|) m, where m is parallel to sum_i w_i X_i / (|X_i| + eps) and has norm 1.

    Where that sum has a norm below eps the result is sum_i w_i X_i (mergekit fails for more than two inputs). One
    expert is itself, whatever its weight.
    """

    name = "multislerp"
    meaning = "weighted mean of the experts' directions, at the weighted mean of their lengths"
    parameters = (WEIGHT,)
    options = (_NORMALIZE, _EPS, _TASK_VECTORS)

    def refusal(self, settings: Settings) -> str | None:
        """See `Method.refusal`."""
        if settings.options["normalize_weights"] and cancel(settings.numbers("weight")):
            return "the weights sum to zero and cannot be normalised; change them or set normalize_weights to false"
        return None

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        if len(operands.experts) == 1:
            return WeightedSum((Term(1.0),), task_vectors=False, base_weight=0.0)
        weights = settings.numbers("weight")
        if settings.options["normalize_weights"]:
            weights = normalized(weights)
        task_vectors, eps = bool(settings.options["task_vectors"]), settings.number("eps")
        gram = operands.statistics.gram_of_task_vectors() if task_vectors else operands.statistics.gram()[1:, 1:]
        lengths = norms(gram)
        directions = [weight / (length + eps) for weight, length in zip(weights, lengths, strict=True)]
        size = norm(directions, gram)
        mean_length = sum(weight * length for weight, length in zip(weights, lengths, strict=True))
        coefficients = weights if size < eps else [direction * mean_length / size for direction in directions]
        terms = tuple(Term(coefficient) for coefficient in coefficients)
        return WeightedSum(terms, task_vectors=task_vectors, base_weight=float(task_vectors))
