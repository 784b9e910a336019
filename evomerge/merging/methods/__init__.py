"""The merge methods, by name."""

from evomerge.errors import UsageError, nearest
from evomerge.merging.methods.base import (
    BLOCK,
    PASSTHROUGH,
    Method,
    Operands,
    Parameter,
    Plan,
    Settings,
    Source,
    Span,
    Statistics,
    Term,
    WeightedSum,
)
from evomerge.merging.methods.breadcrumbs import Breadcrumbs, BreadcrumbsTies
from evomerge.merging.methods.consensus import Consensus
from evomerge.merging.methods.dare import DareLinear, DareTies
from evomerge.merging.methods.della import Della, DellaLinear
from evomerge.merging.methods.karcher import Karcher
from evomerge.merging.methods.linear import Linear
from evomerge.merging.methods.metrics_weighted import MetricsWeighted
from evomerge.merging.methods.model_stock import ModelStock
from evomerge.merging.methods.multislerp import MultiSlerp
from evomerge.merging.methods.nuslerp import NuSlerp
from evomerge.merging.methods.parameters import density
from evomerge.merging.methods.passthrough import Passthrough
from evomerge.merging.methods.pcb import Pcb
from evomerge.merging.methods.ram import Ram, RamPlus
from evomerge.merging.methods.sce import Sce
from evomerge.merging.methods.slerp import Slerp
from evomerge.merging.methods.task_arithmetic import TaskArithmetic
from evomerge.merging.methods.ties import Ties
from evomerge.merging.methods.widen import Widen
from evomerge.recipes.recipe import Value

METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Linear(),
        TaskArithmetic(),
        DareLinear(),
        DareTies(),
        Ties(),
        Breadcrumbs(),
        BreadcrumbsTies(),
        Della(),
        DellaLinear(),
        Slerp(),
        NuSlerp(),
        MultiSlerp(),
        Karcher(),
        ModelStock(),
        Sce(),
        Ram(),
        RamPlus(),
        Pcb(),
        Consensus(),
        Widen(),
        MetricsWeighted(),
        Passthrough(),
    )
}


def get(name: str) -> Method:
    """Return a method by name; `UsageError` with the nearest known name if there is none."""
    if name not in METHODS:
        raise UsageError(f"unknown merge method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def parameter_defaults(name: str) -> dict[str, Value | None]:
    """Return all that a recipe may set for a method, per-expert parameters and options, with its default.

    None: a recipe must set it.
    """
    method = get(name)
    return {parameter.name: parameter.default for parameter in (*method.parameters, *method.options, PASSTHROUGH)}


__all__ = [
    "BLOCK",
    "METHODS",
    "PASSTHROUGH",
    "Method",
    "Operands",
    "Parameter",
    "Plan",
    "Settings",
    "Source",
    "Span",
    "Statistics",
    "Term",
    "WeightedSum",
    "density",
    "get",
    "parameter_defaults",
]
