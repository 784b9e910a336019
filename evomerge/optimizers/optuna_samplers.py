"""Optuna's samplers by name: TPE, a Gaussian process, NSGA-II and NSGA-III with their own options, and any other one.

This file knows which sampler is which and what it can do; how a sampler is asked and told is the adapter's business.
"""

import inspect
from collections.abc import Mapping
from typing import Any

import optuna

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.optimizers.base import Problem
from evomerge.optimizers.optuna_adapter import OptunaOptimizer, bits32, quiet
from evomerge.optimizers.scalarization import Scalarization, weighted_sum


class Tpe(OptunaOptimizer):
    """The tree-structured Parzen estimator (Bergstra et al. 2011; multivariate: Falkner et al. 2018).

    Points being scored count as bad ones (constant liar), so that parallel proposals keep apart. Several objectives are
    searched as a front (Ozaki et al. 2022). Where methods differ in their parameters, each set of parameters that occur
    together has a model of its own (Optuna's `group`), and a trial holds those of its method only.

    Args:
        problem: what is to be optimised.
        scalarization: joins several objectives where `front` is false.
        front: search several objectives as a front.
        startup: points drawn at random before the model is used; starting points count.
        candidates: draws among which the model chooses each proposal.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        scalarization: Scalarization = weighted_sum,
        front: bool = True,
        startup: int = 10,
        candidates: int = 24,
    ) -> None:
        whole(startup, "optimizer tpe: startup")
        whole(candidates, "optimizer tpe: candidates", least=1)
        conditional = any(dimension.methods for dimension in problem.dimensions)

        def sampler(seed: int) -> optuna.samplers.BaseSampler:
            return optuna.samplers.TPESampler(
                n_startup_trials=startup,
                n_ei_candidates=candidates,
                seed=seed,
                multivariate=True,
                group=conditional,
                constant_liar=True,
            )

        super().__init__(
            problem,
            sampler=sampler,
            scalarization=_joined("tpe", front, scalarization),
            conditional=conditional,
        )


class Gp(OptunaOptimizer):
    """Bayesian optimization with a Gaussian process (Optuna's `GPSampler`): Matern 5/2, one length a dimension.

    Each proposal maximises the log expected improvement (Ament et al. 2023) or, with several objectives, the log
    expected hypervolume improvement, times the probability that all floors are kept; points being scored are averaged
    over (q-batch). It takes a tenth of a second to seconds a proposal, growing with dimensions and points.

    Args:
        problem: what is to be optimised.
        scalarization: joins several objectives where `front` is false.
        front: search several objectives as a front.
        startup: points drawn at random before the model is used; starting points count.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        scalarization: Scalarization = weighted_sum,
        front: bool = True,
        startup: int = 10,
    ) -> None:
        whole(startup, "optimizer gp: startup", least=1)

        def sampler(seed: int) -> optuna.samplers.BaseSampler:
            return optuna.samplers.GPSampler(n_startup_trials=startup, seed=seed, warn_independent_sampling=False)

        super().__init__(
            problem,
            sampler=sampler,
            scalarization=_joined("gp", front, scalarization),
        )


class Nsga2(OptunaOptimizer):
    """NSGA-II (Deb et al. 2002): a population, sorted by domination and then by how alone its members are.

    Children by simulated binary crossover and polynomial mutation, as in the paper. Starting points are members of the
    first population. It never waits: a generation begins when as many results of the last one are in.

    Args:
        problem: what is to be optimised.
        population: members of a population.
        crossover: probability that a child has two parents.
        mutation: probability that a coordinate of a child mutates; None: one over the number of dimensions.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        population: int = 20,
        crossover: float = 0.9,
        mutation: float | None = None,
    ) -> None:
        sampler = optuna.samplers.NSGAIISampler(**_genetic("nsga2", problem.seed, population, crossover, mutation))
        super().__init__(problem, sampler=sampler)


class Nsga3(OptunaOptimizer):
    """NSGA-III (Deb and Jain 2014): NSGA-II that spreads its population along reference directions.

    Made for three objectives or more.

    Args:
        problem, population, crossover, mutation: as in `Nsga2`.
        divisions: parts into which each axis of the reference directions is cut.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        population: int = 20,
        crossover: float = 0.9,
        mutation: float | None = None,
        divisions: int = 3,
    ) -> None:
        whole(divisions, "optimizer nsga3: divisions", least=1)
        arguments = _genetic("nsga3", problem.seed, population, crossover, mutation)
        with quiet():  # Optuna calls it experimental
            sampler = optuna.samplers.NSGAIIISampler(**arguments, dividing_parameter=divisions)
        super().__init__(problem, sampler=sampler)


class NamedSampler(OptunaOptimizer):
    """Any sampler class of `optuna.samplers`, by its name and with plain arguments.

    Args:
        problem: what is to be optimised.
        scalarization: joins several objectives where `front` is false.
        front: search several objectives as a front; samplers that know one only need false.
        sampler: name of the class.
        arguments: its keyword arguments: numbers, texts, truth values, lists and mappings of those. `seed` is set from
            the run's seed.

    Raises `UsageError` for a name that is no sampler there and for arguments that it does not take.
    """

    def __init__(
        self,
        problem: Problem,
        *,
        scalarization: Scalarization = weighted_sum,
        front: bool = True,
        sampler: str = "TPESampler",
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(
            problem,
            sampler=_by_name(sampler, dict(arguments or {}), problem.seed),
            scalarization=_joined("optuna", front, scalarization),
        )


def _by_name(name: str, arguments: dict[str, Any], seed: int) -> optuna.samplers.BaseSampler:
    known = {
        key: value
        for key in optuna.samplers.__all__
        if inspect.isclass(value := getattr(optuna.samplers, key)) and not inspect.isabstract(value)
    }
    if name not in known:
        raise UsageError(f"optimizer optuna: unknown sampler {name!r}; {nearest(str(name), known)}")
    parameters = inspect.signature(known[name]).parameters
    refuse_unknown(arguments, [key for key in parameters if key != "seed"], f"optimizer optuna: {name}")
    if "seed" in parameters:
        arguments["seed"] = bits32(seed)
    if "warn_independent_sampling" in parameters:
        arguments.setdefault("warn_independent_sampling", False)
    try:
        with quiet():
            made: optuna.samplers.BaseSampler = known[name](**arguments)
    except (TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"optimizer optuna: {name} refuses its arguments: {error}") from error
    return made


def _genetic(name: str, seed: int, population: int, crossover: float, mutation: float | None) -> dict[str, Any]:
    whole(population, f"optimizer {name}: population", least=4)
    number(crossover, f"optimizer {name}: crossover", least=0, most=1)
    if mutation is not None:
        number(mutation, f"optimizer {name}: mutation", least=0, most=1)
    with quiet():  # Optuna calls polynomial mutation experimental
        operators = optuna.samplers.nsgaii.SBXCrossover(), optuna.samplers.nsgaii.PolynomialMutation()
    return {
        "population_size": population,
        "crossover": operators[0],
        "crossover_prob": crossover,
        "mutation": operators[1],
        "mutation_prob": mutation,
        "seed": bits32(seed),
    }


def _joined(name: str, front: bool, scalarization: Scalarization) -> Scalarization | None:
    if not isinstance(front, bool):
        raise UsageError(f"optimizer {name}: front: write true or false, not {front!r}")
    return None if front else scalarization
