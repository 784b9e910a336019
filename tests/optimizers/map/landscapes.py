"""Landscapes of three experts, for tests: accuracies that are quadratic in the logit, and ones that are not."""

from collections.abc import Callable

import numpy as np

from evomerge.optimizers import Objective, Problem, Proposal, Result, create
from evomerge.recipes import Dimension

HIGH = 1.5
Truth = Callable[[np.ndarray], np.ndarray]


def weights(k: int = 3, groups: int = 1) -> list[Dimension]:
    """One weight an expert, or one for each group of layers."""
    if groups == 1:
        return [Dimension(f"weight.e{i}", "weight", f"e{i}", None, 0.0, HIGH) for i in range(k)]
    return [
        Dimension(f"weight.e{i}.layers.{g}", "weight", f"e{i}", f"layers.{g}", 0.0, HIGH)
        for i in range(k)
        for g in range(groups)
    ]


def logit_quadratic(seed: int, k: int = 3) -> Truth:
    """Accuracies (n, k) of weights (n, k): each task is best near its own expert, the others disturb."""
    rng = np.random.default_rng(seed)
    peaks, curves = [], []
    for task in range(k):
        mix = 0.35 * rng.normal(size=(k, k))
        curve = mix @ mix.T + np.diag(rng.uniform(0.3, 0.8, k))
        curve[task, task] += 0.8
        peak = rng.uniform(-0.1, 0.35, k)
        peak[task] = rng.uniform(0.8, 1.1)
        peaks.append(peak), curves.append(curve)
    tops = rng.uniform(0.3, 1.5, k)

    def truth(w: np.ndarray) -> np.ndarray:
        away = [w - peak for peak in peaks]
        bent = [top - 1.2 * np.einsum("ni,ij,nj->n", d, c, d) for top, d, c in zip(tops, away, curves, strict=True)]
        return 1.0 / (1.0 + np.exp(-np.stack(bent, axis=1)))

    return truth


def cliff(seed: int, k: int = 3) -> Truth:
    """Each task gains by its own expert up to a point, is disturbed by the others, and all collapse beyond a sum."""
    rng = np.random.default_rng(1000 + seed)
    base, top = rng.uniform(0.05, 0.35, k), rng.uniform(0.6, 0.9, k)
    disturb, limit, width = rng.uniform(0.1, 0.7, (k, k)), rng.uniform(1.8, 2.4), rng.uniform(0.15, 0.3)
    peak = rng.uniform(0.8, 1.1, k)
    np.fill_diagonal(disturb, 0.0)

    def truth(w: np.ndarray) -> np.ndarray:
        own = np.sin(np.clip(w / peak, 0, 2) * np.pi / 2)
        stands = (1 + np.exp(-limit / width)) / (1 + np.exp(-(limit - w.sum(axis=1)) / width))
        return np.clip((base + (top - base) * own * np.exp(-(w**2) @ disturb.T)) * stands[:, None], 0.005, 0.995)

    return truth


def starting_points(k: int = 3) -> np.ndarray:
    """The weights of base, experts and average."""
    return np.vstack([np.zeros(k), np.eye(k), np.full(k, 1.0 / k)])


def goals(truth: Truth, k: int = 3) -> list[Objective]:
    scores = truth(starting_points(k))
    return [Objective(f"t{j}", float(scores[0, j]), float(scores[1 : 1 + k, j].max())) for j in range(scores.shape[1])]


def measured(rng: np.random.Generator, p: np.ndarray, items: int) -> Result:
    values = rng.binomial(items, p) / items
    errors = np.sqrt(values * (1 - values) / items)
    return Result(tuple(values.tolist()), tuple(errors.tolist()), (items,) * len(p))


def search(name: str, truth: Truth, *, seed: int, items: int = 64, budget: int = 100, k: int = 3, **options):
    """Play a search of `budget` candidates, the starting points among them; return the optimizer and the weights."""
    rng = np.random.default_rng(seed + 77)
    starts = starting_points(k)
    optimizer = create(name, Problem(weights(k), goals(truth, k), seed=seed, first_number=len(starts)), **options)
    for number, w in enumerate(starts):
        optimizer.tell(Proposal(number, tuple(w / HIGH)), measured(rng, truth(w[None])[0], items))
    found = list(starts)
    while len(found) < budget:
        (proposal,) = optimizer.ask(1)
        found.append(HIGH * np.array(proposal.vector))
        optimizer.tell(proposal, measured(rng, truth(found[-1][None])[0], items))
    return optimizer, np.array(found)
