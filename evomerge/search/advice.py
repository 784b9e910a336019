"""Advice before a search starts: what its configuration gets wrong, and what to write instead, a line each.

The thresholds are here, each with its reason; a configuration that is fine gets no line at all. This file knows spaces
and numbers, nothing about configuration files, models or scores, and it changes nothing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from evomerge.recipes import SearchSpace
from evomerge.recipes.groups import OUTSIDE
from evomerge.recipes.space import SPECIAL_CASE_OF
from evomerge.search.alternatives import Changes, changed, coarser, nested, on_lines, undropped, wider, word, written

# Candidates for each dimension. On synthetic landscapes (36 dimensions, 8 seeds) CMA-ES did no better in the fine space
# than with 3 or 12 dimensions where each had 1 or 2, and better where each had 5.
LEAST_PER_DIMENSION, GOOD_PER_DIMENSION = 2, 5
# A Gaussian process that expects most dimensions to matter little needs fewer (SIP-BMM: 36 dimensions, 48 points).
LEAST_OF_SPARSE = 1
# Generations before a population has moved; the members of one, by number of dimensions, where nobody chose it.
GENERATIONS, SMALLEST_POPULATION = 3, 6
POPULATIONS: Mapping[str, Callable[[int], int]] = {
    "cmaes": lambda n: max(8, 4 + math.floor(3 * math.log(n))),
    "nsga2": lambda n: 20,
    "nsga3": lambda n: 20,
    "m2n2": lambda n: 20,
}
# A plain Gaussian process is at its best up to 20 dimensions (Frazier, arXiv 1807.02811).
GP_DIMENSIONS = 20
# Points to fit for each coefficient of a quadratic.
POINTS_PER_COEFFICIENT = 1.5
# True scores of candidates differ by about two points in published searches; an item's score is 0 or 1.
SPREAD, ITEM_DEVIATION = 0.02, 0.5
# Of what the best candidate is better than the mean, the one that looks best has a share: too little, enough, all.
LEAST_SHARE, GOOD_SHARE, FULL_SHARE = 1 / 3, 1 / 2, 0.95
# Methods that drop at random and rescale.
DARE = ("dare_linear", "dare_ties", "della", "della_linear")

_BLIND = ("random", "sobol", "qmc")


def advise(
    spaces: Sequence[SearchSpace],
    *,
    optimizer: str,
    options: Mapping[str, Any] | None = None,
    candidates: int | None = None,
    shares: Sequence[float] = (1.0,),
    items: Mapping[str, int] | None = None,
    floors: Mapping[str, float] | None = None,
    drop_rate_limits: Mapping[str, float] | None = None,
) -> list[str]:
    """Return what is wrong with a search that is about to start, and what to write instead: a line each.

    Args:
        spaces: the space of each stage, coarse first.
        optimizer, options: its name in the configuration, and its own options.
        candidates: how many may be proposed, the baselines not counted; None: not known.
        shares: of the candidates, one a stage.
        items: task -> how many items of the search split a model is scored on; of tasks whose scores lie in [0, 1].
        floors: task -> the score below which a candidate does not count; of such tasks too.
        drop_rate_limits: expert -> the drop rate where DARE's noise is a tenth of the base's weights; of experts whose
            task vectors are wide (`doctor.measure_sizes`).
    """
    lines = []
    for number, space in enumerate(spaces):
        stage = _Stage(spaces, number, shares, optimizer, options or {})
        lines += stage.nesting() + stage.limits()
        if candidates is not None:
            lines += stage.dimensions(candidates) + stage.generations(candidates)
        lines += _idle(space, stage.name)
    lines += _box(spaces[0]) + _normalised(spaces[0]) + _drop_rates(spaces, drop_rate_limits or {})
    if items and candidates is not None:
        lines += _items(list(items.values()), candidates)
    return lines + _floors(floors or {})


class _Stage:
    """One stage of a search.

    Attributes:
        name: where its space is written.
        share, until: of the budget, its own part and that of all stages up to its end.
    """

    def __init__(
        self,
        spaces: Sequence[SearchSpace],
        number: int,
        shares: Sequence[float],
        optimizer: str,
        options: Mapping[str, Any],
    ) -> None:
        self.space, self.before = spaces[number], spaces[number - 1] if number else None
        self.name = f"space.refine.{number - 1}" if number else "space"
        self.share, self.until = shares[number], sum(shares[: number + 1])
        self.optimizer, self.options = optimizer, options

    def nesting(self) -> list[str]:
        """Whether what the stage before has scored lies in this one."""
        if self.before is None or nested(self.before, self.space):
            return []
        return [
            f"{self.name}: most points of the stage before do not lie in this one, so its scores are lost; write "
            "blocks whose ends include those of the stage before, keep its own groups, and do not narrow its bounds"
        ]

    def limits(self) -> list[str]:
        """Whether the space is one that the optimizer is made for, whatever the budget."""
        unfit = self._unfit(self.space)
        return [f"{self.name}: {unfit}"] if unfit else []

    def _unfit(self, space: SearchSpace) -> str | None:
        if self.optimizer == "gp" and len(space) > GP_DIMENSIONS:
            return (
                f"{len(space)} dimensions are many for optimizer=gp, which is at its best up to {GP_DIMENSIONS}; "
                "write optimizer=saasgp"
            )
        if self.optimizer == "m2n2" and len({d.layer for d in space.dimensions if d.layer is not None}) < 2:
            return (
                "optimizer=m2n2 crosses recipes at layers, and here no layers have values of their own; "
                "write granularity: layer, or blocks of layers"
            )
        return None

    def dimensions(self, candidates: int) -> list[str]:
        """Whether so many dimensions can be searched with so many candidates."""
        needed, reason = self._needed(self.space)
        if needed <= candidates:
            return []

        def fits(space: SearchSpace) -> bool:
            few = len(space) * GOOD_PER_DIMENSION <= candidates * self.until and self._needed(space)[0] <= candidates
            return few and not self._unfit(space) and (self.before is None or nested(self.before, space))

        ways = []
        if found := coarser(self.space, fits):
            ways.append(f"{written(found[0])} ({_count(len(found[1]), 'dimension')})")
        if not self.before and (lines := on_lines(self.space)) and fits(lines):
            ways.append(f"space=lines ({len(lines)})")
        ways.append(f"budget.candidates: {needed}")
        return [
            f"{self.name}: {len(self.space)} dimensions are too many for {round(candidates * self.until)} candidates, "
            f"{reason}; {'leave this stage out, or ' if self.before else ''}write {', or '.join(ways)}"
        ]

    def _needed(self, space: SearchSpace) -> tuple[int, str]:
        """Return the least budget for a space, and what is lacking with less."""
        n = len(space)
        if self.optimizer in _BLIND:
            return 0, ""
        least = LEAST_OF_SPARSE if self.optimizer == "saasgp" else LEAST_PER_DIMENSION
        needed, reason = least * n, f"fewer than {least} for each"
        if self.optimizer in ("map", "bayesian_map", "nested_map") and self.options.get("form") == "full":
            weights = sum(d.parameter == "weight" for d in space.dimensions)
            paired = n if self.options.get("coefficients") == "all" or not weights else weights
            coefficients = 1 + 2 * n + math.comb(paired, 2)
            needed = max(needed, math.ceil(POINTS_PER_COEFFICIENT * coefficients))
            reason = f"a full quadratic has {coefficients} coefficients (form: auto takes fewer)"
        return math.ceil(needed / self.until - 1e-9), reason

    def generations(self, candidates: int) -> list[str]:
        """Whether a population has the time to move."""
        if self.optimizer not in POPULATIONS or self.dimensions(candidates):
            return []
        own = round(candidates * self.share)
        population = self.options.get("population") or POPULATIONS[self.optimizer](len(self.space))
        if own >= GENERATIONS * population:
            return []
        budget = math.ceil(GENERATIONS * population / self.share - 1e-9)
        fitting = own // GENERATIONS
        smaller = f"optimizer.options.population: {fitting}, or " if fitting >= SMALLEST_POPULATION else ""
        return [
            f"{self.name}: {own} candidates are {own / population:.1f} generations of {population}, too few for "
            f"optimizer={self.optimizer} to move; write {smaller}budget.candidates: {budget}"
        ]


# ---- boxes and groups ------------------------------------------------------------------------------------------------


def _idle(space: SearchSpace, name: str) -> list[str]:
    """Groups outside the layers that no expert changes."""
    own = list(space.config.get("own", OUTSIDE))
    without = [
        kind
        for kind in own
        if any(d.group == kind for d in space.dimensions)
        and all(d.importance == 0 for d in space.dimensions if d.group == kind)
    ]
    if not without:
        return []
    kept = [kind for kind in own if kind not in without]
    made = space.with_config({**space.config, "own": kept})
    if len(made) >= len(space):
        return []
    return [
        f"{name}: no expert changes {', '.join(without)}: {len(space) - len(made)} of {len(space)} dimensions for "
        f"nothing; write own: {word(kept)} ({len(made)})"
    ]


def _box(space: SearchSpace) -> list[str]:
    """Whether base and experts are points of the space, where its methods have them."""
    arithmetic = {"task_arithmetic", *SPECIAL_CASE_OF["task_arithmetic"]}
    searched = {dimension.parameter for dimension in space.dimensions}
    if not arithmetic & set(space.methods) or "weight" not in searched:
        return []
    outside = _outside(space)
    changes: Changes = {}
    for cure in (wider, undropped):
        if _outside(changed(space, changes)):
            changes |= cure(space)
    if not outside or _outside(changed(space, changes)):
        return []  # all is well, or it is meant so
    return [f"space: {' and '.join(outside)} cannot be proposed, nor be starting points; write {written(changes)}"]


def _outside(space: SearchSpace) -> list[str]:
    """Which of base and experts, as task arithmetic, are no points of a space."""
    zero = dict.fromkeys(space.experts, 0.0)
    found = [] if space.vector(space.uniform("task_arithmetic", zero)) else ["the base"]
    labels = [e for e in space.experts if space.vector(space.uniform("task_arithmetic", {**zero, e: 1.0})) is None]
    return found + (["the experts"] if len(labels) == len(space.experts) else labels)


def _normalised(space: SearchSpace) -> list[str]:
    """Whether sums of task vectors are divided by the sum of their weights, so that no weight sets their size."""
    options = space.config.get("options") or {}
    sums = all("lambda" in space.method_parameters[method] for method in space.methods)
    searched = any(dimension.parameter == "weight" for dimension in space.dimensions)
    if not sums or not searched or isinstance(options.get("lambda"), Mapping):
        return []
    if any(
        options.get("normalize", space.method_parameters[method].get("normalize")) is not True
        for method in space.methods
    ):
        return []
    return [
        "space: with normalize the weights set a ratio only, one dimension does nothing and no weight gives the base; "
        "write options.normalize: false, or search options.lambda"
    ]


def _drop_rates(spaces: Sequence[SearchSpace], limits: Mapping[str, float]) -> list[str]:
    """Drop rates most of whose box is beyond the guard of DARE."""
    dimensions = [d for space in spaces if set(DARE) & set(space.methods) for d in space.dimensions]
    highs = {
        expert: max(d.high for d in own)
        for expert, limit in limits.items()
        if (own := [d for d in dimensions if d.parameter == "drop_rate" and d.expert == expert])
        and limit < max(d.low + d.high for d in own) / 2
    }
    if not highs:
        return []
    found = " and ".join(f"{limits[expert]:.2f} of {expert}" for expert in highs)
    return [
        f"space: drop_rate goes to {max(highs.values()):g}, but these task vectors are wide: DARE's noise is a tenth "
        f"of the base's weights at {found}; write parameters.drop_rate.high: {min(limits[e] for e in highs):.2f}, or "
        "methods that do not rescale (ties, breadcrumbs, task_arithmetic)"
    ]


# ---- items -----------------------------------------------------------------------------------------------------------


def _items(numbers: Sequence[int], candidates: int) -> list[str]:
    """Hold the noise of a score against how much candidates differ (winner's curse).

    Scores s + e, true ones of standard deviation SPREAD and errors of E: the best-looking of k candidates is truly
    better than the mean by SPREAD^2 / sqrt(SPREAD^2 + E^2) and looks E^2 / sqrt(SPREAD^2 + E^2) better than it is, each
    times the expected largest of k normal numbers; with E = 0 it were SPREAD times that.
    """
    tasks = len(numbers)
    error = ITEM_DEVIATION * math.sqrt(math.fsum(1 / n for n in numbers)) / tasks
    total = math.hypot(SPREAD, error)
    share = SPREAD / total

    def enough(wanted: float) -> int:
        """Items a task with which the share is as wanted."""
        return math.ceil(ITEM_DEVIATION**2 / (tasks * SPREAD**2 * (1 / wanted**2 - 1)))

    if share < LEAST_SHARE:
        optimism = error**2 / total * largest_of(candidates)
        return [
            f"items.search: {_range(numbers)} items of {_count(tasks, 'task')} tell a score to {100 * error:.1f} "
            f"points, and candidates differ by about {100 * SPREAD:.0f}: the best-looking of {candidates} looks "
            f"{100 * optimism:.0f} points too good and gains {100 * share:.0f} % of what the best would; write "
            f"items.search: {enough(GOOD_SHARE)}"
        ]
    useful = enough(FULL_SHARE)
    if max(numbers) > 2 * useful:
        return [
            f"items.search: {_range(numbers)} items of {_count(tasks, 'task')} are more than a search can use: with "
            f"{useful} the candidate that looks best has {100 * FULL_SHARE:.0f} % of what the best would gain; write "
            f"items.search: {useful}"
        ]
    return []


def largest_of(k: int) -> float:
    """Return the expected largest of k standard normal numbers, to 1 % from k = 5 on (Blom 1958).

    >>> round(largest_of(100), 2), round(largest_of(1000), 2)
    (2.51, 3.24)
    """
    return NormalDist().inv_cdf((k - 0.375) / (k + 0.25))


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _floors(floors: Mapping[str, float]) -> list[str]:
    """Floors that no score reaches."""
    return [
        f"objectives.{task}.floor: no score is above 1, so {floor:g} leaves no candidate; write {floor / 100:g}"
        for task, floor in floors.items()
        if floor > 1
    ]
