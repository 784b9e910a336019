"""Optimizers by name, for configurations. This file knows nothing about how they work."""

import inspect
from collections.abc import Callable
from typing import Any

from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.optimizers.base import Optimizer, Problem
from evomerge.optimizers.botorch_gp import SaasGp
from evomerge.optimizers.cmaes import CmaEs
from evomerge.optimizers.m2n2 import M2N2
from evomerge.optimizers.map import BayesianMap, MapSearch, NestedMap
from evomerge.optimizers.optuna_samplers import Gp, NamedSampler, Nsga2, Nsga3, Tpe
from evomerge.optimizers.random import RandomSearch
from evomerge.optimizers.scalarization import scalarization as scalarization_by_name
from evomerge.optimizers.sobol import SobolSearch

OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {
    "random": RandomSearch,
    "sobol": SobolSearch,
    "cmaes": CmaEs,
    "tpe": Tpe,
    "gp": Gp,
    "nsga2": Nsga2,
    "nsga3": Nsga3,
    "optuna": NamedSampler,
    "m2n2": M2N2,
    "saasgp": SaasGp,
    "map": MapSearch,
    "bayesian_map": BayesianMap,
    "nested_map": NestedMap,
}

_NOT_OPTIONS = ("problem", "scalarization")


def create(name: str, problem: Problem, *, scalarization: str = "weighted_sum", **options: Any) -> Optimizer:
    """Build an optimizer.

    Args:
        name: one of `OPTIMIZERS`.
        problem: what is to be optimised.
        scalarization: weighted_sum, tchebycheff or maximin; used by optimizers that know one objective only.
        options: the optimizer's own, as its class documents them.

    Raises `UsageError` for an unknown name, scalarization or option.
    """
    if name not in OPTIMIZERS:
        raise UsageError(f"unknown optimizer {name!r}; {nearest(name, OPTIMIZERS)}")
    build = OPTIMIZERS[name]
    joined = scalarization_by_name(scalarization)
    known = inspect.signature(build).parameters
    own = [option for option in known if option not in _NOT_OPTIONS]
    if options and not own:
        raise UsageError(f"optimizer {name} has no options; remove {next(iter(options))!r}")
    refuse_unknown(options, own, f"optimizer {name}")
    if "scalarization" in known:
        options["scalarization"] = joined
    return build(problem, **options)
