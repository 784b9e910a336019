"""Bayesian optimization of many coordinates with few scores: a Gaussian process whose prior knows the task vectors.

Each objective has a process of its own. Its length scales are fitted under a prior that expects more of a coordinate
where the task vectors are large (`length_scales.py`), and its noise is known: the standard error of each score. BoTorch
(the extra `botorch`) turns the processes into the next point: the one of largest expected improvement over what is
known (one objective; Ament et al. 2023), or of largest expected gain of hypervolume over the base (several).

A proposal is a function of the seed, its number, the results told and the points being scored, and of nothing else.
"""

import importlib.util
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.checks import whole
from evomerge.errors import UsageError
from evomerge.optimizers.base import Failure, Problem, Proposal, Result
from evomerge.optimizers.length_scales import Surface, fit_surface, prior_centres
from evomerge.optimizers.points import is_news, method_of, plays, sobol_point, tidy
from evomerge.optimizers.replayed import ReplayedOptimizer
from evomerge.recipes import Dimension

Array = NDArray[np.float64]

#: Decimals of a proposal's coordinates: no score tells smaller steps apart, but processors of different makes do.
DECIMALS = 4
#: With more objectives than this the front is that of the model's means, and pending points are believed to score
#: theirs: fronts sampled with the noise of the known points and of the pending ones would take minutes.
SAMPLED_FRONT = 2
#: With more objectives, a front of more members is thinned out.
LARGEST_FRONT = 20
#: Steps of the local search for the best point.
STEPS = 30
#: Length scales are fitted to at most so many points, drawn at random; the process knows all of them.
FITTED = 256
#: Variance of a standardised score that no error can go below, so that equal points do not break the process.
LEAST_NOISE = 1e-6


class SaasGp(ReplayedOptimizer):
    """A Gaussian process with length-scale priors from the task vectors, asynchronous, one objective or several.

    The first points are those of a scrambled Sobol sequence, until `startup` points are known or being scored, and
    again wherever the scores say nothing (none yet, all equal). Points being scored are taken into account (BoTorch's
    `X_pending`), so parallel proposals keep apart. Floors are outcome constraints. The front of several objectives is
    measured from the base (0 on the normalised scale). A failed point counts as bad as the worst score so far, with an
    error as wide as the scores are spread. A coordinate that the point's method does not know plays no part; a choice
    is a feature for each value, with one length scale.

    Args:
        problem: what is to be optimised.
        startup: points before the first fit; starting points count.
        raw: points at which the acquisition is looked at before the best are improved.
        restarts: how many of them are improved by gradients.
        samples: Monte Carlo samples of the processes.

    Raises `UsageError` where BoTorch is not installed.
    """

    multi_objective = True

    def __init__(
        self,
        problem: Problem,
        *,
        startup: int = 16,
        raw: int = 128,
        restarts: int = 4,
        samples: int = 32,
    ) -> None:
        for name, value, least in (
            ("startup", startup, 2),
            ("raw", raw, 2),
            ("restarts", restarts, 1),
            ("samples", samples, 2),
        ):
            whole(value, f"optimizer saasgp: {name}", least=least)
        if importlib.util.find_spec("botorch") is None:
            raise UsageError("optimizer saasgp needs botorch: pip install 'evomerge[botorch]'")
        super().__init__(problem)
        self._startup, self._raw, self._restarts, self._samples = startup, raw, restarts, samples
        self._coding = Coding(self.dimensions)
        self._told_points: list[tuple[float, ...]] = []
        self._outcomes: list[Result | Failure] = []
        self._foreign = 0

    def describe(self, budget: int | None) -> list[str]:
        """Return how many points come before the first fit, if they are all of the budget."""
        if budget is None or budget > self._startup:
            return []
        return [f"saasgp: the first {self._startup} points are spread out, which is all of {budget}; lower startup"]

    def _propose(self) -> Sequence[float]:
        asked = self.next_number - self.first_number
        pending = (p.vector for p in self._waiting.values())
        known = [tidy(self.dimensions, vector) for vector in (*self._told_points, *pending)]
        rng = np.random.default_rng((self.seed, self.next_number))
        scores = self._scores()
        tried: list[tuple[float, ...]]
        if self._foreign + asked < self._startup or scores is None:
            tried = [sobol_point(len(self.dimensions), asked, seed=self.seed)]
        else:
            tried = self._best(*scores, rng)
        for vector in tried:
            rounded = tidy(self.dimensions, [round(u, DECIMALS) for u in vector])
            if is_news(rounded, known):
                return rounded
        return tuple(float(u) for u in rng.random(len(self.dimensions)))

    def _learn(self, proposal: Proposal, outcome: Result | Failure, *, own: bool) -> None:
        self._foreign += not own
        self._told_points.append(proposal.vector)
        self._outcomes.append(outcome)

    def _retrace(self, vector: tuple[float, ...]) -> bool:
        return True

    def _save(self) -> dict[str, Any]:
        return {}

    def _recall(self, proposal: Proposal, outcome: Result | Failure | None) -> None:
        if outcome is not None:
            self._learn(proposal, outcome, own=True)

    def _load(self, state: Mapping[str, Any]) -> None:
        """All was recalled."""

    def _scores(self) -> tuple[Array, Array] | None:
        """Return normalised scores and the variances of their noise, each of shape (points, objectives).

        None where they say nothing.
        """
        known = [outcome for outcome in self._outcomes if isinstance(outcome, Result)]
        if not known:
            return None
        table = np.array([[o.normalise(v) for o, v in zip(self.objectives, r.values, strict=True)] for r in known])
        spread = table.std(axis=0)
        if not spread.any():
            return None
        found = iter(zip(table, known, strict=True))
        values, variances = [], []
        for outcome in self._outcomes:
            if isinstance(outcome, Failure):
                values.append(table.min(axis=0))
                variances.append(np.maximum(spread, 1e-3) ** 2)
            else:
                row, result = next(found)
                values.append(row)
                variances.append(np.array([self._error(result, i) for i in range(len(self.objectives))]) ** 2)
        return np.array(values), np.array(variances)

    def _error(self, result: Result, i: int) -> float:
        """Return the standard error of a score on the normalised scale.

        Items that are all right or all wrong have an error of 0 by the formula; the next item may differ all the same.
        """
        objective, items = self.objectives[i], result.items[i]
        error = result.errors[i] if math.isfinite(result.errors[i]) else 0.0
        scale = objective.normalise(1.0) - objective.normalise(0.0)
        return max(error, 0.5 / (items + 1)) * scale

    def _best(self, scores: Array, variances: Array, rng: np.random.Generator) -> list[tuple[float, ...]]:
        """Return points in the order of their promise, the best first."""
        middle, spread = scores.mean(axis=0), scores.std(axis=0)
        spread = np.where(spread > 0.0, spread, 1.0)
        values = (scores - middle) / spread
        noise = np.maximum(variances / spread**2, LEAST_NOISE)
        floors = {
            i: (objective.normalise(objective.floor) - middle[i]) / spread[i]
            for i, objective in enumerate(self.objectives)
            if objective.floor is not None
        }
        features = self._coding.encode(self._told_points)
        pending = self._coding.encode([p.vector for p in self._waiting.values()])
        with seeded_torch(int(rng.integers(2**31))):
            centres = prior_centres([d.importance for d in self.dimensions])
            some = np.sort(rng.permutation(len(features))[:FITTED])
            columns = zip(values[some].T, noise[some].T, strict=True)
            surfaces = [fit_surface(features[some], self._coding.owners, y, v, centres) for y, v in columns]
            model = build_model(self._coding, surfaces, features, values, noise)
            guess = means(model, features)
            good = [self._told_points[i] for i in leaders(guess, floors, most=8)]
            if len(pending) and len(surfaces) > SAMPLED_FRONT:
                values = np.concatenate([values, means(model, pending)])
                features = np.concatenate([features, pending])
                noise = np.concatenate([noise, np.full((len(pending), len(surfaces)), LEAST_NOISE)])
                model = build_model(self._coding, surfaces, features, values, noise)
                pending = pending[:0]
            acquisition = build_acquisition(
                model,
                features,
                pending=pending,
                reference=-middle / spread,
                floors=floors,
                samples=self._samples,
                seed=int(rng.integers(2**31)),
            )
            raw = raw_points(self.dimensions, good, self._raw, rng)
            return improve(acquisition, self._coding, raw, self._restarts)


class Coding:
    """How points of the cube become features of a process: numbers as they are, a choice one feature a value.

    Two values of a choice are as far apart as the ends of a number. A coordinate that the point's method does not know
    is in the middle.
    """

    def __init__(self, dimensions: Sequence[Dimension]) -> None:
        self.dimensions = tuple(dimensions)
        self.owners = [i for i, d in enumerate(dimensions) for _ in range(max(len(d.choices), 1))]

    def encode(self, points: Sequence[Sequence[float]]) -> Array:
        """Return the features of points, shape (points, features)."""
        return np.array([self._row(point) for point in points], dtype=np.float64).reshape(-1, len(self.owners))

    def decode(self, features: Sequence[float]) -> tuple[float, ...]:
        """Return the point that has these features."""
        point, place = [], 0
        for d in self.dimensions:
            width = max(len(d.choices), 1)
            part = features[place : place + width]
            point.append((int(np.argmax(part)) + 0.5) / width if d.choices else float(part[0]))
            place += width
        return tuple(point)

    def bounds(self, point: Sequence[float]) -> tuple[list[float], list[float]]:
        """Return the lowest and highest features that a local search from a point may reach.

        Only numbers move, and of these the ones that the point's method knows.
        """
        method = method_of(self.dimensions, point)
        moves = [not d.choices and plays(d, method) for d in (self.dimensions[i] for i in self.owners)]
        pairs = [(0.0, 1.0) if free else (u, u) for free, u in zip(moves, self._row(point), strict=True)]
        return [low for low, _ in pairs], [high for _, high in pairs]

    def _row(self, point: Sequence[float]) -> list[float]:
        row: list[float] = []
        for d, u in zip(self.dimensions, tidy(self.dimensions, point), strict=True):
            chosen = int(u * len(d.choices))
            row += [math.sqrt(0.5) * (k == chosen) for k in range(len(d.choices))] or [u]
        return row


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Let torch compute on one thread, from a seeded generator, in silence, and leave everything as it was.

    Sums over several threads depend on their number. BoTorch's kernel in C++, which it would compile in the user's
    home on first use, is left out: whether there is a compiler must not change the proposals.
    """
    with warnings.catch_warnings(record=True):  # not only "ignore": BoTorch lifts that for some of its warnings
        warnings.simplefilter("ignore")
        import torch
        from botorch.acquisition.multi_objective import logei

        threads, state = torch.get_num_threads(), torch.get_rng_state()
        kernel = logei._C, logei._load_attempted
        try:
            torch.set_num_threads(1)
            torch.default_generator.manual_seed(seed)
            logei._C, logei._load_attempted = None, True
            yield
        finally:
            logei._C, logei._load_attempted = kernel
            torch.set_rng_state(state)
            torch.set_num_threads(threads)


def build_model(coding: Coding, surfaces: Sequence[Surface], features: Array, values: Array, noise: Array) -> Any:
    """Return BoTorch's model with known length scales, variances and means, one surface an objective."""
    import torch
    from botorch.models import SingleTaskGP
    from gpytorch.kernels import MaternKernel, ScaleKernel
    from gpytorch.means import ConstantMean

    batch = torch.Size([len(surfaces)] if len(surfaces) > 1 else [])
    matern = MaternKernel(nu=2.5, ard_num_dims=features.shape[1], batch_shape=batch).double()
    kernel, mean = ScaleKernel(matern, batch_shape=batch).double(), ConstantMean(batch_shape=batch).double()
    matern.lengthscale = torch.tensor(np.array([s.lengths[coding.owners] for s in surfaces])).reshape(*batch, 1, -1)
    kernel.outputscale = torch.tensor([s.variance for s in surfaces], dtype=torch.double).reshape(batch)
    mean.constant.data = torch.tensor([s.mean for s in surfaces], dtype=torch.double).reshape(batch)
    model = SingleTaskGP(
        torch.from_numpy(features),
        torch.from_numpy(values),
        torch.from_numpy(noise),
        covar_module=kernel,
        mean_module=mean,
        outcome_transform=None,
    )
    return model.eval().requires_grad_(False)


def means(model: Any, features: Array) -> Array:
    """Return the model's expectations, shape (points, objectives)."""
    import torch

    return np.asarray(model.posterior(torch.from_numpy(features)).mean.numpy())


def build_acquisition(
    model: Any,
    features: Array,
    *,
    pending: Array,
    reference: Array,
    floors: dict[int, float],
    samples: int,
    seed: int,
) -> Any:
    """Return BoTorch's acquisition function: expected improvement, or expected gain of hypervolume over `reference`.

    `features` are those of the known points; `reference` and `floors` (by objective) are standardised. Up to
    `SAMPLED_FRONT` objectives the known points' true scores are uncertain, with more they are the model's means.
    """
    import torch
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import (
        qLogExpectedHypervolumeImprovement,
        qLogNoisyExpectedHypervolumeImprovement,
    )
    from botorch.sampling.normal import SobolQMCNormalSampler
    from botorch.utils.multi_objective.box_decompositions.non_dominated import FastNondominatedPartitioning

    def below(i: int, floor: float) -> Any:
        return lambda scores: floor - scores[..., i]

    known = torch.from_numpy(features)
    common = {
        "sampler": SobolQMCNormalSampler(torch.Size([samples]), seed=seed),
        "X_pending": torch.from_numpy(pending) if len(pending) else None,
        "constraints": [below(i, floor) for i, floor in floors.items()] or None,
    }
    objectives = model.num_outputs
    if objectives == 1:
        return qLogNoisyExpectedImprovement(model, known, prune_baseline=True, **common)
    if objectives <= SAMPLED_FRONT:
        return qLogNoisyExpectedHypervolumeImprovement(model, reference.tolist(), known, prune_baseline=True, **common)
    guess = means(model, features)
    front = guess[leaders(guess, floors, most=LARGEST_FRONT, feasible=True)]
    cells = FastNondominatedPartitioning(torch.from_numpy(reference), torch.from_numpy(front))
    return qLogExpectedHypervolumeImprovement(model, reference.tolist(), cells, **common)


def leaders(scores: Array, floors: dict[int, float], *, most: int, feasible: bool = False) -> list[int]:
    """Return up to `most` points to start from: the best of one objective, members of the front of several.

    Those above the floors (the ones least below where there are none, unless only the `feasible` are wanted). A front
    is thinned by leaving the members out that lie nearest to others.
    """
    short = sum((np.maximum(floor - scores[:, i], 0.0) for i, floor in floors.items()), np.zeros(len(scores)))
    if feasible and short.min() > 0.0:
        return []
    kept = np.flatnonzero(short <= short.min())
    if scores.shape[1] == 1:
        return [int(i) for i in kept[np.argsort(-scores[kept, 0], kind="stable")][:most]]
    inside = scores[kept]
    as_good = np.all(inside[None] >= inside[:, None], axis=2)
    dominated = np.any(as_good & ~as_good.T, axis=1)
    front = [int(i) for i in kept[~dominated]]
    while len(front) > most:
        gaps = np.linalg.norm(scores[front][:, None] - scores[front][None], axis=2)
        np.fill_diagonal(gaps, math.inf)
        del front[int(np.argmin(gaps.min(axis=1)))]
    return front


def raw_points(
    dimensions: Sequence[Dimension], good: Sequence[Sequence[float]], count: int, rng: np.random.Generator
) -> list[tuple[float, ...]]:
    """Return points for a first look: half of them anywhere, half of them near the `good` ones.

    Near means: some coordinates moved (20 or so at most, half of them in few dimensions), a tenth of the side on
    average; in many dimensions a point drawn anywhere is far from all that is known.
    """
    size = len(dimensions)
    points = rng.random((count, size))
    for i in range(count // 2 if good else 0):
        start = np.asarray(good[i % len(good)])
        moved = rng.random(size) < min(0.5, 20.0 / size)
        moved[rng.integers(size)] = True
        step = np.clip(start + 0.1 * rng.standard_normal(size), 0.0, 1.0)
        fresh = np.where([bool(d.choices) for d in dimensions], rng.random(size), step)
        points[i] = np.where(moved, fresh, start)
    return [tuple(point) for point in points.tolist()]


def improve(acquisition: Any, coding: Coding, raw: Sequence[Sequence[float]], restarts: int) -> list[tuple[float, ...]]:
    """Return points of large acquisition, largest first: the best `raw` ones moved uphill, then the raw ones."""
    import torch
    from botorch.generation.gen import gen_candidates_scipy

    features = torch.from_numpy(coding.encode(raw)).unsqueeze(1)
    with torch.no_grad():
        values = torch.nan_to_num(acquisition(features), nan=-math.inf, neginf=-math.inf)
    order = [int(i) for i in torch.argsort(values, descending=True, stable=True)]
    looked = [tuple(raw[i]) for i in order]
    starts = order[:restarts]
    bounds = [coding.bounds(raw[i]) for i in starts]
    low, high = (torch.tensor([pair[k] for pair in bounds], dtype=torch.double).unsqueeze(1) for k in (0, 1))
    if bool((low == high).all()):  # nothing but choices
        return looked
    moved, reached = gen_candidates_scipy(
        features[starts], acquisition, low, high, options={"maxiter": STEPS}, use_parallel_mode=False
    )
    best = torch.argsort(torch.nan_to_num(reached, nan=-math.inf), descending=True, stable=True)
    found = [coding.decode(moved[int(i), 0].tolist()) for i in best]
    return [*found, *looked]
