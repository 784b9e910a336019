"""Task arithmetic and what grew out of it: task vectors, thinned out, weighted, summed, added to the base.

    method           thinned by            signs elected   normalize
    task_arithmetic  nothing               no              false       Ilharco et al., 2212.04089
    dare_linear      random mask           no              false       Yu et al., 2311.03099
    ties             magnitude             yes             true        Yadav et al., 2306.01708
    dare_ties        random mask           yes             false

Names, defaults and the order of steps are mergekit's: thinning is per tensor, weights come before the election of
signs, a tied election is +. Except that DARE rescales by the inverse of the keep probability, as in its paper;
mergekit's restoring of the L1 norm is `rescale: l1`. mergekit's density is 1 - drop_rate. This file knows nothing about
files or recipes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

import torch

from evomerge.merging import mask
from evomerge.merging.methods.base import Method, Operands, Parameter, Plan, Settings
from evomerge.merging.methods.linear import SMALL_DIVISOR, WEIGHT, float32_sum
from evomerge.merging.methods.reductions import blocked_sum, kth_largest

# Below this no L1 norm is restored, as mergekit has it.
_SMALL_NORM = 1e-7

_LAMBDA = Parameter("lambda", "factor of the summed task vectors", default=1.0)
_DROP_RANDOM = Parameter("drop_rate", "share of the task vector dropped at random", default=0.0, low=0.0, high=1.0)
_DROP_SMALL = Parameter("drop_rate", "share of the task vector dropped, smallest first", default=0.0, low=0.0, high=1.0)
_RESCALE = Parameter(
    "rescale",
    "what makes up for dropped elements: inv_keep (1 / keep probability) or l1 (the tensor's L1 norm is restored)",
    default="inv_keep",
    choices=("inv_keep", "l1"),
)


def _normalize(default: bool) -> Parameter:
    return Parameter("normalize", "divide by the sum of the weights", default=default, choices=(True, False))


def density(drop_rate: float) -> float:
    """Return mergekit's density, 1 - drop_rate, without the noise of the subtraction (1 - 0.9 is 0.1)."""
    return round(1.0 - drop_rate, 12)


@dataclass(frozen=True)
class Thinning:
    """How one task vector is thinned out: plain numbers, the same for every element.

    Attributes:
        mask_threshold: elements whose mask number is below it are dropped (0: none, 65536: all).
        magnitude: elements smaller than it are dropped (0: none, infinity: all).
        factor: what the others are multiplied by.
    """

    mask_threshold: int = 0
    magnitude: float = 0.0
    factor: float = 1.0

    def apply(self, operands: Operands, expert: int, first: int, last: int) -> torch.Tensor:
        """Return elements first .. last - 1 of an expert's thinned task vector, in float32; dropped ones are +0."""
        delta = operands.delta(expert, first, last)
        if self.mask_threshold == 65536 or self.magnitude == inf:
            return torch.zeros_like(delta)
        if self.mask_threshold > 0:
            numbers = operands.uniforms(expert, first, last - first)
            delta.masked_fill_(mask.dropped(numbers, self.mask_threshold), 0.0)
        if self.magnitude > 0.0:
            delta.masked_fill_(delta.abs() < self.magnitude, 0.0)
        return delta if self.factor == 1.0 else delta.mul_(self.factor)


def by_magnitude(operands: Operands, expert: int, drop_rate: float) -> Thinning:
    """Keep every |delta| >= T, T the k-th largest of the tensor, k = max(1, int(density N))."""
    kept = density(drop_rate)
    if kept >= 1.0 or operands.size == 0:
        return Thinning()
    if kept <= 0.0:
        return Thinning(magnitude=inf)

    def magnitudes(first: int, last: int) -> torch.Tensor:
        return operands.delta(expert, first, last).abs_()

    return Thinning(magnitude=kth_largest(magnitudes, operands.size, max(1, int(kept * operands.size))))


def by_chance(operands: Operands, expert: int, drop_rate: float, *, restore_l1: bool) -> Thinning:
    """Drop by the DARE mask and rescale, by the inverse keep probability or to the tensor's L1 norm."""
    t = mask.threshold(drop_rate)
    if not restore_l1:
        return Thinning(mask_threshold=t, factor=mask.rescale(t))
    if t == 0:
        return Thinning()
    thinned = Thinning(mask_threshold=t)
    before = blocked_sum(lambda first, last: operands.delta(expert, first, last).abs_(), operands.size)
    after = blocked_sum(lambda first, last: thinned.apply(operands, expert, first, last).abs_(), operands.size)
    return Thinning(t, factor=1.0 if min(before, after) < _SMALL_NORM else before / after)


class TaskArithmetic(Method):
    """B + lambda * sum_i w_i d_i; its subclasses thin the d_i first, and elect signs."""

    name = "task_arithmetic"
    meaning = "base plus weighted task vectors"
    parameters: tuple[Parameter, ...] = (WEIGHT,)
    options: tuple[Parameter, ...] = (_normalize(False), _LAMBDA)
    elects_signs = False

    def thin(self, operands: Operands, settings: Settings) -> list[Thinning]:
        """Return how each expert's task vector is thinned out."""
        return [Thinning()] * len(operands.experts)

    def plan(self, operands: Operands, settings: Settings) -> Plan:
        """See `Method.plan`."""
        weights, factor = settings.numbers("weight"), settings.number("lambda")
        normalize = bool(settings.options["normalize"])
        thinnings = self.thin(operands, settings)
        total_weight = float32_sum(weights)
        # A tensor, not a number: torch may multiply by the reciprocal of a number, which rounds differently.
        divisor = torch.tensor([1.0 if abs(total_weight) < SMALL_DIVISOR else total_weight], dtype=torch.float32)

        def merge(first: int, last: int) -> torch.Tensor:
            terms = (
                thinning.apply(operands, expert, first, last).mul_(weight)
                for expert, (thinning, weight) in enumerate(zip(thinnings, weights, strict=True))
            )
            if self.elects_signs:
                total = elect(list(terms), weights, normalize=normalize)
            else:
                total = next(terms)
                for term in terms:
                    total += term
                if normalize:
                    total /= divisor
            return total.mul_(factor).add_(operands.base[first:last].float())

        return merge


def elect(terms: Sequence[torch.Tensor], weights: Sequence[float], *, normalize: bool) -> torch.Tensor:
    """Sum the terms whose sign is the elected one; a new tensor.

    The elected sign of an element is that of the sum of its terms, + where that is zero. Zeros agree with no sign.
    With `normalize` the sum is divided by the weights of the terms that were summed (where those are 0, by 1).
    """
    votes = terms[0].clone()
    for term in terms[1:]:
        votes += term
    positive = votes >= 0
    total, divisor = torch.zeros_like(votes), torch.zeros_like(votes)
    for term, weight in zip(terms, weights, strict=True):
        agrees = torch.where(positive, term > 0, term < 0)
        total += torch.where(agrees, term, 0.0)
        divisor += agrees.float().mul_(weight)
    if not normalize:
        return total
    return total.div_(divisor.masked_fill_(divisor == 0, 1.0))


class DareLinear(TaskArithmetic):
    """Task arithmetic on task vectors thinned by the DARE mask."""

    name = "dare_linear"
    meaning = "base plus weighted task vectors, each thinned at random and rescaled"
    parameters = (WEIGHT, _DROP_RANDOM)
    options = (_normalize(False), _LAMBDA, _RESCALE)
    stochastic = True

    def thin(self, operands: Operands, settings: Settings) -> list[Thinning]:
        """See `TaskArithmetic.thin`."""
        l1 = settings.options["rescale"] == "l1"
        rates = settings.numbers("drop_rate")
        return [by_chance(operands, expert, rate, restore_l1=l1) for expert, rate in enumerate(rates)]


class DareTies(DareLinear):
    """DARE's thinning, then TIES' election of signs."""

    name = "dare_ties"
    meaning = "task vectors thinned at random and rescaled, then summed where their signs agree"
    elects_signs = True


class Ties(TaskArithmetic):
    """Task vectors trimmed by magnitude, signs elected, those that agree averaged."""

    name = "ties"
    meaning = "task vectors trimmed to their largest elements, then averaged where their signs agree"
    parameters = (WEIGHT, _DROP_SMALL)
    options = (_normalize(True), _LAMBDA)
    elects_signs = True

    def thin(self, operands: Operands, settings: Settings) -> list[Thinning]:
        """See `TaskArithmetic.thin`."""
        rates = settings.numbers("drop_rate")
        return [by_magnitude(operands, expert, rate) for expert, rate in enumerate(rates)]
