"""What will a search need, and how long will it take? Asked before anything heavy starts.

`shape` reads headers (or a config alone), `work` counts what the search will do, `batches` finds the largest batch,
`memory` and `disk` reckon bytes, `measure` measures one candidate (`measured` says what follows), `asking` the
optimizer, `needs` and `total` sum up, `totals` for several optimizers, `verdict` says go or no-go, `make` joins them
into a `result`, `show` prints it.
"""

from evomerge.search.plan.make import make_plan
from evomerge.search.plan.needs import Limits
from evomerge.search.plan.result import Plan
from evomerge.search.plan.show import print_plan

__all__ = ["Limits", "Plan", "make_plan", "print_plan"]
