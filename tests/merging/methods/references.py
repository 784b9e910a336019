"""The methods written down once more, in float64, from their published definitions; nothing is shared with the package.

Except the mask's numbers and its thresholds, which have check vectors of their own. Task vectors are differences in
float32: which elements tie, and whose sign wins, is decided there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from evomerge.merging import mask

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """What is merged: float64 arrays of one shape; experts, parameters and d in label order."""

    base: Array
    experts: list[Array]
    labels: list[str]
    parameters: list[Mapping[str, Any]]
    options: Mapping[str, Any]
    name: str
    seed: int = 0
    others: Mapping[str, Array] = field(default_factory=dict)

    @property
    def d(self) -> list[Array]:
        return [np.float64(np.float32(x) - np.float32(self.base)) for x in self.experts]

    def values(self, name: str) -> list[float]:
        return [float(p[name]) for p in self.parameters]

    def numbers(self, expert: int) -> Array:
        key = mask.key_of(self.seed, self.labels[expert], self.name)
        drawn = mask.uniforms(key, 0, self.base.size).numpy().astype(np.int64)
        return drawn.reshape(self.base.shape)


# ---- weighted sums -------------------------------------------------------------------------------------------------


def linear(case: Case) -> Array:
    weights = case.values("weight")
    total = sum(w * x for w, x in zip(weights, case.experts, strict=True))
    return total / sum(weights) if case.options["normalize"] else total


def _sum(case: Case, thinned: list[Array]) -> Array:
    weights = case.values("weight")
    terms = [w * d for w, d in zip(weights, thinned, strict=True)]
    total, divisor = sum(terms), sum(weights)
    divisor = 1.0 if abs(divisor) < 1e-8 else divisor
    if "elect" in case.options:
        voters = terms if case.options["elect"] == "weighted" else thinned
        elected = np.where(sum(voters) >= 0, 1.0, -1.0)
        agrees = [np.sign(v) == elected for v in voters]
        total = sum(np.where(a, t, 0.0) for a, t in zip(agrees, terms, strict=True))
        divisor = sum(np.where(a, w, 0.0) for a, w in zip(agrees, weights, strict=True))
        divisor = np.where(divisor == 0, 1.0, divisor)
    if case.options["normalize"]:
        total = total / divisor
    return case.base + case.options["lambda"] * total


def task_arithmetic(case: Case) -> Array:
    return _sum(case, case.d)


def _density(drop_rate: float) -> float:
    return round(1 - drop_rate, 12)


def ties(case: Case) -> Array:
    thinned = []
    for label, d, p in zip(case.labels, case.d, case.values("drop_rate"), strict=True):
        density = _density(p)
        pool = np.abs(d).ravel()
        if case.options["trim"] == "model":
            pool = np.concatenate([pool, np.abs(case.others.get(label, np.zeros(0))).ravel()])
        k = max(1, int(density * pool.size))
        smallest = np.sort(pool)[::-1][min(k, pool.size) - 1]
        thinned.append(np.where(np.abs(d) >= smallest, d, 0.0) if density > 0 else 0 * d)
    return _sum(case, thinned)


def _restore(kept: Array, d: Array) -> Array:
    before, after = np.abs(d).sum(), np.abs(kept).sum()
    return kept if min(before, after) < 1e-7 else kept * (before / after)


def dare(case: Case) -> Array:
    thinned = []
    for i, (d, p) in enumerate(zip(case.d, case.values("drop_rate"), strict=True)):
        t = mask.threshold(p)
        kept = np.where(case.numbers(i) >= t, d, 0.0)
        if case.options["rescale"] == "l1":
            thinned.append(_restore(kept, d) if t else kept)
        else:
            thinned.append(kept * (65536 / (65536 - t)) if t < 65536 else kept)
    return _sum(case, thinned)


def breadcrumbs(case: Case) -> Array:
    thinned = []
    for d, p, gamma in zip(case.d, case.values("drop_rate"), case.values("gamma"), strict=True):
        density, n = _density(p), d.size
        count, top = int(density * n), int(gamma * n)
        bottom = max(0, n - count - top)
        ascending = np.sort(np.abs(d).ravel())[bottom : bottom + count]
        if density >= 1:
            thinned.append(d)
        elif count == 0:
            thinned.append(0 * d)
        else:
            thinned.append(np.where((np.abs(d) >= ascending[0]) & (np.abs(d) <= ascending[-1]), d, 0.0))
    return _sum(case, thinned)


def della(case: Case) -> Array:
    thinned = []
    columns = case.base.shape[-1] if case.base.ndim else 1
    for i, (d, p, epsilon) in enumerate(zip(case.d, case.values("drop_rate"), case.values("epsilon"), strict=True)):
        density = _density(p)
        if density <= 0 or density >= 1:
            thinned.append(d if density >= 1 else 0 * d)
            continue
        kept = np.zeros(d.size)
        rows, numbers = d.reshape(-1, columns), case.numbers(i).reshape(-1, columns)
        for r, row in enumerate(rows):
            for rank, c in enumerate(np.argsort(np.abs(row), kind="stable")):
                keep = density if columns == 1 else density - epsilon + rank / (columns - 1) * 2 * epsilon
                t = mask.threshold(1 - min(max(keep, 0.0), 1.0))
                if numbers[r, c] >= t:
                    factor = 65536 / (65536 - t) if case.options["rescale"] == "inv_keep" else 1.0
                    kept[r * columns + c] = row[c] * factor
        kept = kept.reshape(d.shape)
        thinned.append(_restore(kept, d) if case.options["rescale"] == "l1" else kept)
    return _sum(case, thinned)


def metrics_weighted(case: Case) -> Array:
    sign = -1 if case.options["better"] == "smaller" else 1
    weights = [metric ** (sign * case.options["power"]) for metric in case.values("metric")]
    return sum(w * x for w, x in zip(weights, case.experts, strict=True)) / sum(weights)


def passthrough(case: Case) -> Array:
    return case.options["scale"] * case.experts[0]


# ---- on the sphere -------------------------------------------------------------------------------------------------


def _slerp(t: float, a: Array, c: Array, cosine: float, linear: bool) -> Array:
    if linear:
        return (1 - t) * a + t * c
    angle = np.arccos(cosine)
    return (np.sin((1 - t) * angle) * a + np.sin(t * angle) * c) / np.sin(angle)


def slerp(case: Case) -> Array:
    a, c = case.experts if len(case.experts) == 2 else (case.base, case.experts[0])
    unit = [v / (np.linalg.norm(v) if np.linalg.norm(v) > 1e-8 else 1.0) for v in (a, c)]
    cosine = np.clip((unit[0] * unit[1]).sum(), -1, 1)
    return _slerp(case.options["t"], a, c, cosine, bool(abs(cosine) > 0.9995))


def nuslerp(case: Case) -> Array:
    first, second = case.values("weight")
    t = second / (first + second) if abs(first + second) >= 1e-6 else 0.5
    a, c = (np.atleast_1d(x) for x in (case.d if case.options["task_vectors"] else case.experts))

    def along(x: Array, y: Array) -> Array:
        cosine = x @ y / max(np.linalg.norm(x), 1e-7) / max(np.linalg.norm(y), 1e-7)
        cosine = np.clip(cosine, -1, 1)
        return _slerp(t, x, y, cosine, bool(1 - cosine**2 <= 2.0**-24))

    if case.options["nuslerp_flatten"]:
        merged = along(a.ravel(), c.ravel())
    else:
        axis = 0 if case.options["nuslerp_row_wise"] else -1
        merged = np.empty_like(a)
        for index in np.ndindex(*np.moveaxis(a, axis, -1).shape[:-1]):
            np.moveaxis(merged, axis, -1)[index] = along(
                np.moveaxis(a, axis, -1)[index], np.moveaxis(c, axis, -1)[index]
            )
    merged = merged.reshape(case.base.shape)
    return merged + case.base if case.options["task_vectors"] else merged


def multislerp(case: Case) -> Array:
    """The definition in full: onto the tangent space and back."""
    vectors = case.d if case.options["task_vectors"] else case.experts
    origin, eps = case.base if case.options["task_vectors"] else 0.0, case.options["eps"]
    if len(vectors) == 1:
        return case.experts[0]
    weights = np.array(case.values("weight"))
    weights = weights / weights.sum() if case.options["normalize_weights"] else weights
    norms = [np.linalg.norm(v) for v in vectors]
    units = [v / (n + eps) for v, n in zip(vectors, norms, strict=True)]
    mean = sum(w * u for w, u in zip(weights, units, strict=True))
    if np.linalg.norm(mean) < eps:
        return origin + sum(w * v for w, v in zip(weights, vectors, strict=True))
    mean = mean / np.linalg.norm(mean)
    tangent = sum(w * (u - (u * mean).sum() * mean) for w, u in zip(weights, units, strict=True))
    size = np.linalg.norm(tangent) + eps
    back = mean * np.cos(size) + tangent * np.sin(size) / size
    return origin + back * sum(w * n for w, n in zip(weights, norms, strict=True))


def karcher(case: Case) -> Array:
    if len(case.experts) == 1:
        return case.experts[0]
    tol = case.options["tol"]
    norms = [np.linalg.norm(x) for x in case.experts]
    units = [x / n for x, n in zip(case.experts, norms, strict=True) if n > tol]
    if not units:
        return 0 * case.base
    mean = sum(units) / len(units)
    mean = units[0] if np.linalg.norm(mean) < tol else mean / np.linalg.norm(mean)
    for _ in range(int(case.options["max_iter"])):
        tangent = 0 * mean
        for u in units:
            cosine = np.clip((u * mean).sum(), -1, 1)
            angle = np.arccos(cosine)
            if tol <= angle <= np.pi - tol:
                tangent = tangent + angle / np.sin(angle) * (u - cosine * mean) / len(units)
        size = np.linalg.norm(tangent)
        if size < tol:
            break
        mean = np.cos(size) * mean + np.sin(size) * tangent / size
        mean = mean / np.linalg.norm(mean)
    return sum(norms) / len(norms) * mean


def model_stock(case: Case) -> Array:
    def ratio(vectors: list[Array]) -> float:
        cosines = [
            np.clip(x @ y / max(np.linalg.norm(x) * np.linalg.norm(y), 1e-6), -1, 1)
            for x, y in combinations(vectors, 2)
        ]
        cosine, count = np.mean(cosines), len(vectors)
        divisor = 1 + (count - 1) * cosine
        return 0.0 if abs(divisor) < 1e-6 else count * cosine / divisor

    mean = sum(case.d) / len(case.d)
    if not case.options["filter_wise"]:
        return case.base + ratio([d.ravel() for d in case.d]) * mean
    columns = case.base.shape[-1] if case.base.ndim else 1
    rows = [d.reshape(-1, columns) for d in case.d]
    t = np.array([ratio([d[r] for d in rows]) for r in range(len(rows[0]))])
    return case.base + (t[:, None] * mean.reshape(-1, columns)).reshape(case.base.shape)


# ---- element by element --------------------------------------------------------------------------------------------


def sce(case: Case) -> Array:
    d, share = np.stack(case.d), case.options["select_topk"]
    if share < 1:
        variance = np.where((d == d[0]).all(axis=0), 0.0, d.var(axis=0))
        k = int(np.count_nonzero(variance) * share)
        threshold = np.sort(variance.ravel())[::-1][k - 1] if k else np.inf
        d = np.where(variance >= threshold * (1 - 1e-6), d, 0.0)
    means = (d.reshape(len(d), -1) ** 2).mean(axis=1)
    small = means.sum() < case.options["floor"] or means.sum() == 0
    weights = np.full(len(d), 1 / len(d)) if small else means / means.sum()
    elected = np.where(d.sum(axis=0) >= 0, 1.0, -1.0)
    shares = weights.reshape(-1, *[1] * case.base.ndim) * (np.sign(d) == elected)
    divisor = shares.sum(axis=0)
    return case.base + (shares * d).sum(axis=0) / np.where(divisor == 0, 1.0, divisor)


def ram(case: Case) -> Array:
    d = np.stack(case.d)
    changed = np.abs(d) > np.float32(case.options["epsilon"])
    count = changed.sum(axis=0)
    factors = np.ones(len(d))
    if "r" in case.options:
        for i in range(len(d)):
            shared, unique = (changed[i] & (count > 1)).sum(), (changed[i] & (count == 1)).sum()
            rho = shared / unique if unique else 0.0
            factors[i] = 1 + case.options["r"] * min(max(rho, 0.0), case.options["alpha"])
    merged = np.zeros_like(case.base)
    for i in range(len(d)):
        merged += np.where(changed[i] & (count == 1), factors[i] * d[i], 0.0)
        merged += np.where(changed[i] & (count > 1), d[i] / np.maximum(count, 1), 0.0)
    return case.base + merged


def pcb(case: Case) -> Array:
    d = case.d
    if not case.base.size:
        return case.base

    def norm(x: Array) -> Array:
        return (x - x.min()) / (x.max() - x.min()) if x.max() > x.min() else 0 * x

    def softmax(x: Array) -> Array:
        return np.exp(x) / np.exp(x).sum()

    def product(i: int, j: int) -> Array:
        return np.float64(np.float32(d[i]) * np.float32(d[j]))

    total, divisor = 0 * case.base, 0 * case.base
    for i, (weight, p) in enumerate(zip(case.values("weight"), case.values("drop_rate"), strict=True)):
        intra = softmax(len(d) * norm(product(i, i)))
        inter = sum(softmax(norm(product(i, j))) for j in range(len(d)))
        score, density = intra * inter, _density(p)
        if density <= 0:
            continue
        k = max(1, int(density * score.size))
        score = np.where(score >= np.sort(score.ravel())[::-1][min(k, score.size) - 1] * (1 - 1e-7), score, 0.0)
        total, divisor = total + score * weight * d[i], divisor + score
    return case.base + total / np.where(divisor == 0, 1.0, divisor)


def consensus(case: Case) -> Array:
    terms = [w * d for w, d in zip(case.values("weight"), case.d, strict=True)]
    total = sum(terms)
    needed = sum((np.abs(t) >= case.options["tall_lambda"] * np.abs(total - t)).astype(int) for t in terms)
    return case.base + case.options["lambda"] * np.where(needed >= case.options["k"], total, 0.0)


def widen(case: Case) -> Array:
    ratio, value = case.options["ratio"], case.options["score"]

    def scores(significance: Array, average: Array) -> Array:
        soft = np.exp(significance) / np.exp(significance).sum(axis=0)
        return np.where(significance > average[:, None] * ratio, value, soft)

    if not case.base.size:
        return case.base
    if case.base.ndim < 2:
        d = np.stack([d.ravel() for d in case.d])
        merged = (scores(np.abs(d), np.abs(d).mean(axis=1)) * d).sum(axis=0)
        return case.base + merged.reshape(case.base.shape)
    matrix = case.base.reshape(-1, case.base.shape[-1])
    experts = [x.reshape(matrix.shape) for x in case.experts]
    embeddings = "embed_tokens" in case.name
    if embeddings:
        matrix, experts = matrix.T, [x.T for x in experts]

    def rank(x: Array) -> Array:
        ranks = np.empty(x.size)
        ranks[np.argsort(x, kind="stable")] = np.arange(x.size) / x.size
        return ranks

    def cosine(x: Array, y: Array) -> float:
        if not (x.any() and y.any()):
            return float(x.any() == y.any())
        return float(x @ y / np.sqrt((x @ x) * (y @ y)))

    columns = range(matrix.shape[1])
    lengths, turns = [], []
    for x in experts:
        change = [abs(np.linalg.norm(x[:, c]) - np.linalg.norm(matrix[:, c])) for c in columns]
        lengths.append(rank(np.array(change)))
        turns.append(rank(np.array([1 - cosine(matrix[:, c], x[:, c]) for c in columns])))
    average = np.full(len(experts), (len(columns) - 1) / (2 * len(columns)))
    score = 0.5 * (scores(np.stack(lengths), average) + scores(np.stack(turns), average))
    d = [x.reshape(-1, case.base.shape[-1]) for x in case.d]
    d = [x.T for x in d] if embeddings else d
    moved = sum(score[i] * d[i] for i in range(len(d)))
    return case.base + (moved.T if embeddings else moved).reshape(case.base.shape)


REFERENCES: dict[str, Callable[[Case], Array]] = {
    "linear": linear,
    "task_arithmetic": task_arithmetic,
    "dare_linear": dare,
    "dare_ties": dare,
    "ties": ties,
    "breadcrumbs": breadcrumbs,
    "breadcrumbs_ties": breadcrumbs,
    "della": della,
    "della_linear": della,
    "slerp": slerp,
    "nuslerp": nuslerp,
    "multislerp": multislerp,
    "karcher": karcher,
    "model_stock": model_stock,
    "sce": sce,
    "ram": ram,
    "ramplus_tl": ram,
    "pcb": pcb,
    "consensus": consensus,
    "widen": widen,
    "metrics_weighted": metrics_weighted,
    "passthrough": passthrough,
}
