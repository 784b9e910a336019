"""MAP: quadratic surrogates of the merge coefficients, the optimizers that use them, and fronts read from them."""

from evomerge.optimizers.map.amortised import AmortisedFront, amortise
from evomerge.optimizers.map.bayesian import BayesianMap
from evomerge.optimizers.map.nested import NestedMap
from evomerge.optimizers.map.promise import Answers
from evomerge.optimizers.map.search import MapSearch
from evomerge.optimizers.map.surrogates import Surrogates, fit_surrogates

__all__ = [
    "AmortisedFront",
    "Answers",
    "BayesianMap",
    "MapSearch",
    "NestedMap",
    "Surrogates",
    "amortise",
    "fit_surrogates",
]
