"""The merge methods, by name."""

from evomerge.errors import UsageError, nearest
from evomerge.merging.methods.base import BLOCK, Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.linear import Linear
from evomerge.merging.methods.task_arithmetic import DareLinear, DareTies, TaskArithmetic, Ties, density

METHODS: dict[str, Method] = {
    method.name: method for method in (Linear(), TaskArithmetic(), DareLinear(), Ties(), DareTies())
}


def get(name: str) -> Method:
    """Return a method by name; `UsageError` with the nearest known name if there is none."""
    if name not in METHODS:
        raise UsageError(f"unknown merge method {name!r}; {nearest(name, METHODS)}")
    return METHODS[name]


def parameter_names(name: str) -> frozenset[str]:
    """Return the names of all that a recipe may set for a method: per-expert parameters and options."""
    method = get(name)
    return frozenset(parameter.name for parameter in (*method.parameters, *method.options))


__all__ = [
    "BLOCK",
    "METHODS",
    "Method",
    "Operands",
    "Parameter",
    "Plan",
    "Settings",
    "density",
    "get",
    "parameter_names",
]
