"""M2N2, model merging of natural niches (arXiv 2508.16204), in the space of recipes.

An archive of recipes competes for items as for food: an item that few members solve is worth more to those that do, so
specialists survive beside generalists. A child has two parents: one drawn by fitness, one drawn by how well it solves
what the first does not. The recipe is cut at a layer; on one side of the cut the child is nearer to one parent, on the
other side nearer to the other. Each child is told when it is scored and drives out the member of least fitness: there
are no generations, and children of the present archive are proposed while others are still being scored.

What differs from the paper, which mixes tensors: the merge weights and other numbers are mixed here, so that every
child is a recipe of the same base and experts. There is no mutation but where a child would be as good as
equal to a known recipe: parents that agree have nothing to mix. (The paper has noise on every child only where models
start untrained.)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.checks import number, whole
from evomerge.optimizers.base import Failure, Objective, Problem, Proposal, Result
from evomerge.optimizers.points import Rows, is_news, method_of, plays, sobol_point, tidy
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.recipes import Dimension
from evomerge.recipes.groups import parse_group

#: Added to the sum of scores of an item, as in the paper's code: an item that nobody solves is no resource.
EPSILON = 1e-6
#: First size of a mutation, in units of the cube's side. It grows until the child is new.
MUTATION = 0.05
#: Mutations tried before a child is drawn anywhere in the cube.
MUTATIONS = 16

#: Where groups outside the layers lie: before the first layer, or after the last.
OUTSIDE_PLACES = {
    "encoder": -math.inf,
    "projector": -math.inf,
    "embeddings": -math.inf,
    "norms": math.inf,
    "head": math.inf,
}

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Member:
    """A recipe of the archive: its point, for each objective its mean and its scores by item; its proposal's number."""

    vector: tuple[float, ...]
    means: tuple[float, ...]
    by_item: tuple[Mapping[int, float], ...]
    number: int = 0


class M2N2(ReplayedOptimizer):
    """An archive under competition for items, with attraction between parents and split points over the layers.

    The archive starts with the starting points that are told, and with points of a scrambled Sobol sequence until
    `population` points are known or being scored. A failed point never enters it; members below a floor are the first
    to leave it. Several objectives need no front: the items of all tasks are resources, a task's items together worth
    its weight. Items that a race left out count as the value that the result's mean leaves for them.

    Args:
        problem: what is to be optimised.
        population: members of the archive, at least 2.
        alpha: strength of the competition; 0 is a plain genetic algorithm, 1 the paper's.
    """

    multi_objective = True
    wants_items = True

    def __init__(self, problem: Problem, *, population: int = 20, alpha: float = 1.0) -> None:
        super().__init__(problem)
        whole(population, "optimizer m2n2: population", least=2)
        self._population, self._alpha = population, number(alpha, "optimizer m2n2: alpha", least=0)
        self._places = [place(dimension) for dimension in self.dimensions]
        self._archive: list[Member] = []
        self._known = Rows(len(self.dimensions))  # every point asked for or told
        self._recalled: dict[int, Member] = {}
        self._foreign = 0

    def describe(self, budget: int | None) -> list[str]:
        """Return how many points come before the first child, if they are all of the budget."""
        if budget is None or budget > self._population:
            return []
        return [f"m2n2: an archive of {self._population} is not filled by {budget} candidates; lower population"]

    def _propose(self) -> Sequence[float]:
        rng = np.random.default_rng((self.seed, self.next_number))
        asked = self.next_number - self.first_number
        if self._foreign + asked < self._population or len(self._archive) < 2:
            vector = sobol_point(len(self.dimensions), asked, seed=self.seed)
        else:
            vector = self._child(rng)
        vector = self._fresh(tidy(self.dimensions, vector), rng)
        self._known.append(vector)
        return vector

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        if not own:
            self._known.append(proposal.vector)
            self._foreign += 1
        if isinstance(outcome, Failure):
            return
        self._archive.append(Member(proposal.vector, outcome.values, outcome.by_item, proposal.number))
        if len(self._archive) > self._population:
            fit = fitness(*score_table(self._archive, self.objectives), alpha=self._alpha)
            # Of equals the oldest goes: an archive of equals keeps moving.
            del self._archive[min(range(len(fit)), key=lambda k: (-self._shortfall(self._archive[k]), fit[k]))]

    def _recall(self, proposal: Proposal, outcome: Result | Failure | None) -> None:
        if outcome is None:
            self._known.append(proposal.vector)
        elif isinstance(outcome, Result):
            self._recalled[proposal.number] = Member(proposal.vector, outcome.values, outcome.by_item, proposal.number)

    def _save(self) -> dict[str, Any]:
        return {"archive": [member.number for member in self._archive]}

    def _load(self, state: Mapping[str, Any]) -> None:
        members = {member.number: member for member in self._archive} | self._recalled
        self._archive, self._recalled = [members[number] for number in state["archive"]], {}

    def _shortfall(self, member: Member) -> float:
        """Return how far a member lies below the floors, in sum."""
        return sum(o.shortfall(mean) for o, mean in zip(self.objectives, member.means, strict=True))

    def _child(self, rng: np.random.Generator) -> tuple[float, ...]:
        """Return a child of two members."""
        scores, weights = score_table(self._archive, self.objectives)
        first = roulette(fitness(scores, weights, alpha=self._alpha), rng)
        drawn = attraction(scores, weights, first, alpha=self._alpha)
        if not drawn.any():  # nobody solves what the first does not
            drawn = np.ones(len(drawn))
            drawn[first] = 0.0
        a, b = self._archive[first].vector, self._archive[roulette(drawn, rng)].vector
        shares = split_shares(self._places, rng)
        return cross(self.dimensions, a, b, shares)

    def _fresh(self, vector: tuple[float, ...], rng: np.random.Generator) -> tuple[float, ...]:
        """Return a point, mutated until it is away from every known one."""
        size, start = MUTATION, vector
        for _ in range(MUTATIONS):
            if is_news(vector, self._known.all):
                return vector
            vector = tidy(self.dimensions, mutate(self.dimensions, start, size, rng))
            size *= 1.25
        return tuple(float(u) for u in rng.random(len(vector)))


def score_table(members: Sequence[Member], objectives: Sequence[Objective]) -> tuple[Array, Array]:
    """Return the members' scores on all items of all objectives, and the items' weights.

    Shapes (members, items) and (items,). An objective's items are those that any member was scored on; each has an
    equal part of the objective's weight. Where a member's score is not known it is what the member's mean leaves for
    the unknown ones, within the scores that occur. An objective with scores below 0 is moved up to begin at 0.
    """
    columns, weights = [], []
    for i, objective in enumerate(objectives):
        places = sorted({item for member in members for item in member.by_item[i]})
        table = np.array([[member.by_item[i].get(item, math.nan) for item in places] for member in members])
        lowest, highest = float(np.nanmin(table, initial=0.0)), float(np.nanmax(table, initial=0.0))
        for row, member in zip(table, members, strict=True):
            unknown = np.isnan(row)
            if unknown.any():
                left = member.means[i] * len(places) - row[~unknown].sum()
                row[unknown] = min(max(left / unknown.sum(), lowest), highest)
        columns.append(table - lowest)
        weights.append(np.full(len(places), objective.weight / max(len(places), 1)))
    return np.concatenate(columns, axis=1), np.concatenate(weights)


def fitness(scores: Array, weights: Array, *, alpha: float = 1.0) -> Array:
    """Return what each member wins in the competition for items, shape (members,).

    f(k) = sum_j c_j s_kj / (z_j^alpha + eps), z_j = sum_k s_kj the demand for item j, c_j its size: its weight times
    the best score that any member has on it (for scores of 0 and 1, just the weight).
    """
    return np.asarray((scores * _shares(scores, weights, alpha)).sum(axis=1))


def attraction(scores: Array, weights: Array, first: int, *, alpha: float = 1.0) -> Array:
    """Return how much each member has that `first` lacks, shape (members,).

    g(k) = sum_j c_j / (z_j^alpha + eps) max(s_kj - s_first,j, 0); alpha is part of it in the authors' code.
    """
    return np.asarray((np.maximum(scores - scores[first], 0.0) * _shares(scores, weights, alpha)).sum(axis=1))


def roulette(chances: Array, rng: np.random.Generator) -> int:
    """Draw an index with probability proportional to `chances`; with equal ones where all are zero."""
    if not chances.any():
        chances = np.ones(len(chances))
    edges = np.cumsum(chances)
    return int(min(np.searchsorted(edges, rng.random() * edges[-1], side="right"), np.flatnonzero(chances)[-1]))


def place(dimension: Dimension) -> float | None:
    """Return where a coordinate lies along the depth of the model: its layer, or infinitely far before or after.

    None for one that is about the whole model (the method, an option, a group such as `all` or `layers`).
    """
    if dimension.layer is not None or dimension.group is None:
        return dimension.layer
    return OUTSIDE_PLACES.get(parse_group(dimension.group).kind)


def split_shares(places: Sequence[float | None], rng: np.random.Generator) -> list[float]:
    """Draw a split point and a mixing ratio; return the second parent's share in each coordinate.

    A coordinate before the split has share w, one behind it 1 - w, w uniform. The split lies before one of the distinct
    places, the first included. A coordinate without a place falls on either side by the toss of a coin.
    """
    ratio = float(rng.random())
    distinct = sorted({p for p in places if p is not None})
    split = distinct[int(rng.integers(len(distinct)))] if distinct else 0.0
    before = [bool(rng.random() < 0.5) if p is None else p < split for p in places]
    return [ratio if side else 1.0 - ratio for side in before]


def cross(
    dimensions: Sequence[Dimension], a: Sequence[float], b: Sequence[float], shares: Sequence[float]
) -> tuple[float, ...]:
    """Return the point whose values lie between those of points `a` and `b`, at the second parent's `shares`.

    The values of one parameter (the weights of all experts and groups, say) form a vector, and the mix of two such
    vectors lies on the great circle between them, cut off at the bounds: averages would shrink weights that point in
    different directions. A choice is that of the parent with the larger share. Where the parameter is unknown to the
    method of only one parent, the other's value stands.
    """
    child = [0.0] * len(dimensions)
    methods = method_of(dimensions, a), method_of(dimensions, b)
    numbers: dict[str, list[int]] = {}
    for i, dimension in enumerate(dimensions):
        known = [plays(dimension, method) for method in methods]
        if known[0] != known[1]:
            child[i] = a[i] if known[0] else b[i]
        elif dimension.choices:
            child[i] = b[i] if shares[i] > 0.5 else a[i]
        else:
            numbers.setdefault(dimension.parameter, []).append(i)
    for indices in numbers.values():
        one, other = (np.array([dimensions[i].value(v[i]) for i in indices], dtype=np.float64) for v in (a, b))
        mixed = spherical(one, other, np.array([shares[i] for i in indices]))
        for i, value in zip(indices, mixed, strict=True):
            d = dimensions[i]
            child[i] = (min(max(float(value), d.low), d.high) - d.low) / (d.high - d.low)
    return tuple(child)


def spherical(a: Array, b: Array, shares: Array) -> Array:
    """Mix two vectors along the great circle between them, `shares` (one a coordinate) being those of `b`.

    The angle is that of the whole vectors. Straight mixing where the two have no angle: parallel, opposite, or zero.
    """
    norms = float(np.sqrt((a * a).sum() * (b * b).sum()))
    angle = math.acos(min(max(float((a * b).sum()) / norms, -1.0), 1.0)) if norms > 0.0 else 0.0
    if math.sin(angle) <= 1e-6:
        return (1.0 - shares) * a + shares * b
    return np.asarray((np.sin((1.0 - shares) * angle) * a + np.sin(shares * angle) * b) / math.sin(angle))


def mutate(
    dimensions: Sequence[Dimension], vector: Sequence[float], size: float, rng: np.random.Generator
) -> tuple[float, ...]:
    """Return a point moved by a Gaussian step in each number (mirrored at the bounds), one choice drawn anew."""
    moved = np.asarray(vector) + size * rng.standard_normal(len(vector))
    moved = 1.0 - np.abs(1.0 - np.abs(moved) % 2.0)
    choices = [i for i, d in enumerate(dimensions) if d.choices]
    for i in choices:
        moved[i] = vector[i]
    if choices:
        moved[choices[int(rng.integers(len(choices)))]] = rng.random()
    return tuple(float(u) for u in moved)


def _shares(scores: Array, weights: Array, alpha: float) -> Array:
    """Return what an item pays for each unit of score, shape (items,)."""
    return np.asarray(weights * scores.max(axis=0) / (scores.sum(axis=0) ** alpha + EPSILON))
