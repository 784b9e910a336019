"""Optimizers, all behind ask/tell."""

from evomerge.optimizers.base import Failure, Objective, Optimizer, Proposal, Result
from evomerge.optimizers.cmaes import CmaEs
from evomerge.optimizers.factory import OPTIMIZERS, create
from evomerge.optimizers.optuna_adapter import OptunaOptimizer, Tpe
from evomerge.optimizers.random import RandomSearch
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.optimizers.scalarization import SCALARIZATIONS, Scalarization, maximin, weighted_sum
from evomerge.optimizers.sobol import SobolSearch

__all__ = [
    "OPTIMIZERS",
    "SCALARIZATIONS",
    "CmaEs",
    "Failure",
    "Objective",
    "Optimizer",
    "OptunaOptimizer",
    "Proposal",
    "RandomSearch",
    "ReplayedOptimizer",
    "Result",
    "Scalarization",
    "SobolSearch",
    "Tpe",
    "create",
    "maximin",
    "weighted_sum",
]
