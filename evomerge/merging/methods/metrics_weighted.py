"""Metrics-weighted averaging: checkpoints averaged by how well each did (MWA, 2504.18580).

Weights are proportional to metric^-power where smaller is better (a loss), to metric^power where larger is (an
accuracy, a step number). The metric is a number that comes with the checkpoint; nothing is measured here.
"""

import math

from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings, Term, WeightedSum
from evomerge.merging.methods.parameters import normalized

_METRIC = Parameter("metric", "how well the expert did, above 0", low=0.0)
_POWER = Parameter("power", "how sharply weights follow the metric (0: all alike)", default=1.0, low=0.0, high=1000.0)
_BETTER = Parameter("better", "which metric is better", default="smaller", choices=("smaller", "larger"))


class MetricsWeighted(Method):
    """sum_i w_i X_i / sum_i w_i, w_i a power of the expert's metric; the base has no part in it."""

    name = "metrics_weighted"
    meaning = "mean of the experts, weighted by a power of their metrics"
    parameters = (_METRIC,)
    options = (_POWER, _BETTER)

    def refusal(self, settings: Settings) -> str | None:
        """See `Method.refusal`."""
        return None if min(settings.numbers("metric")) > 0.0 else "a metric is 0; metrics must be above 0"

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        sign = -1.0 if settings.options["better"] == "smaller" else 1.0
        logs = [sign * settings.number("power") * math.log(metric) for metric in settings.numbers("metric")]
        # relative to the best, so that none overflows
        weights = [math.exp(log - max(logs)) for log in logs]
        terms = tuple(Term(weight) for weight in normalized(weights))
        return WeightedSum(terms, task_vectors=False, base_weight=0.0)
