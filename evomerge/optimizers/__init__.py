"""Optimizers, all behind ask/tell."""

from evomerge.optimizers.base import Failure, Objective, Optimizer, Problem, Proposal, Result
from evomerge.optimizers.botorch_gp import SaasGp
from evomerge.optimizers.cmaes import CmaEs
from evomerge.optimizers.factory import OPTIMIZERS, create
from evomerge.optimizers.m2n2 import M2N2
from evomerge.optimizers.map import BayesianMap, MapSearch, NestedMap, Surrogates, fit_surrogates
from evomerge.optimizers.optuna_adapter import OptunaOptimizer
from evomerge.optimizers.optuna_samplers import Gp, NamedSampler, Nsga2, Nsga3, Tpe
from evomerge.optimizers.random import RandomSearch
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.optimizers.scalarization import SCALARIZATIONS, Scalarization, maximin, tchebycheff, weighted_sum
from evomerge.optimizers.sobol import SobolSearch

__all__ = [
    "M2N2",
    "OPTIMIZERS",
    "SCALARIZATIONS",
    "BayesianMap",
    "CmaEs",
    "Failure",
    "Gp",
    "MapSearch",
    "NamedSampler",
    "NestedMap",
    "Nsga2",
    "Nsga3",
    "Objective",
    "Optimizer",
    "OptunaOptimizer",
    "Problem",
    "Proposal",
    "RandomSearch",
    "ReplayedOptimizer",
    "Result",
    "SaasGp",
    "Scalarization",
    "SobolSearch",
    "Surrogates",
    "Tpe",
    "create",
    "fit_surrogates",
    "maximin",
    "tchebycheff",
    "weighted_sum",
]
