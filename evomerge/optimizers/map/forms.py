"""Quadratic forms: which products of coordinates a surrogate has a coefficient for.

A point of the unit cube is coded first: a number u as 2 u - 1, a choice as one column for each of its values. A form
then lists products of columns:

    full        every square and every pair of the coefficients
    group       every square, and pairs inside one group of tensors (the experts' weights of the same layers)
    low_rank    no squares of single columns, but a full quadratic in a few directions: each expert's mean over its
                groups (weighted by `Dimension.importance`) and its slope over the layers
    diagonal    every square, no pairs

The coefficients are the merge weights, or all numbers of the space. Numbers that are no coefficients have a linear and
a squared term of their own (linear only in `low_rank`), choices a constant for each value. This file knows nothing
about scores.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

from evomerge.recipes import Dimension

Array = npt.NDArray[np.float64]

FORMS = ("full", "group", "low_rank", "diagonal")
COEFFICIENTS = ("weights", "all")


@dataclass(frozen=True)
class Form:
    """Terms of a quadratic.

    Attributes:
        name: one of `FORMS`.
        directions: (r, columns); further columns, sums of the coded ones.
        pairs: (terms, 2); the products, by columns of the coded point followed by the directions.
        columns: how many columns a coded point has.
    """

    name: str
    directions: Array
    pairs: npt.NDArray[np.int64]
    columns: int

    @property
    def size(self) -> int:
        """The number of coefficients, the constant included."""
        return 1 + self.columns + len(self.pairs)

    def terms(self, coded: Array) -> Array:
        """Return the terms but the constant, (n, size - 1), of coded points (n, columns)."""
        wide = np.hstack([coded, coded @ self.directions.T])
        return np.hstack([coded, wide[:, self.pairs[:, 0]] * wide[:, self.pairs[:, 1]]])

    def squared(self) -> npt.NDArray[np.bool_]:
        """Say of each term but the constant whether it is of second order."""
        return np.arange(self.size - 1) >= self.columns


def code(dimensions: Sequence[Dimension], points: Array) -> Array:
    """Return the coded points, (n, columns), of points of the unit cube (n, d)."""
    columns: list[Array] = []
    for dimension, u in zip(dimensions, np.asarray(points, dtype=float).T, strict=True):
        k = len(dimension.choices)
        if k:
            chosen = np.minimum((u * k).astype(int), k - 1)
            columns += [(chosen == value).astype(float) for value in range(k)]
        else:
            columns.append(2.0 * u - 1.0)
    return np.stack(columns, axis=1)


def build(name: str, dimensions: Sequence[Dimension], coefficients: str = "weights") -> Form:
    """Return the form of that name. In a space without weights all numbers are coefficients."""
    starts = np.cumsum([0, *(max(len(d.choices), 1) for d in dimensions)])
    numbers = [(d, int(at)) for d, at in zip(dimensions, starts[:-1], strict=True) if not d.choices]
    chosen = numbers
    if coefficients == "weights" and any(d.parameter == "weight" for d, _ in numbers):
        chosen = [(d, at) for d, at in numbers if d.parameter == "weight"]
    columns = int(starts[-1])
    squares = [(at, at) for _, at in numbers]
    directions = np.zeros((0, columns))
    if name == "full":
        pairs = squares + list(combinations([at for _, at in chosen], 2))
    elif name == "group":
        pairs = squares + [(a, b) for (d, a), (e, b) in combinations(chosen, 2) if d.group == e.group]
    elif name == "low_rank":
        directions = _directions(chosen, columns)
        wide = range(columns, columns + len(directions))
        pairs = [(a, a) for a in wide] + list(combinations(wide, 2))
    elif name == "diagonal":
        pairs = squares
    else:
        raise ValueError(f"unknown form {name!r}")
    return Form(name, directions, np.array(pairs, dtype=np.int64).reshape(-1, 2), columns)


def build_all(dimensions: Sequence[Dimension], coefficients: str = "weights") -> list[Form]:
    """Return every form of a space, the largest first, those with equal products once."""
    found: dict[frozenset[tuple[int, ...]], Form] = {}
    for name in FORMS:
        form = build(name, dimensions, coefficients)
        if name == "low_rank" and len(form.directions) >= form.columns:
            continue  # no shorter than the full form
        found.setdefault(frozenset(map(tuple, form.pairs.tolist())), form)
    return sorted(found.values(), key=lambda form: -form.size)


def _directions(chosen: Iterable[tuple[Dimension, int]], columns: int) -> Array:
    """Return the means and slopes of the coefficients that share parameter and expert, each of length 1."""
    families: dict[tuple[str, str | None], list[tuple[Dimension, int]]] = {}
    for dimension, at in chosen:
        families.setdefault((dimension.parameter, dimension.expert), []).append((dimension, at))
    found = []
    for members in families.values():
        mean = np.zeros(columns)
        for dimension, at in members:
            mean[at] = dimension.importance
        found.append(mean)
        layered = [(dimension.layer, at) for dimension, at in members if dimension.layer is not None]
        if len(layered) > 2:
            slope, middle = np.zeros(columns), np.mean([layer for layer, _ in layered])
            for layer, at in layered:
                slope[at] = (layer - middle) * mean[at]
            found.append(slope)
    lengths = [float(np.linalg.norm(direction)) for direction in found]
    # the scale of a mean: a direction of ones over m columns moves by at most 1
    scaled = [d / np.abs(d).sum() for d, length in zip(found, lengths, strict=True) if length > 0]
    return np.array(scaled).reshape(-1, columns)
