"""The values of a recipe as pictures: rows are places in the model, columns its modules, one picture a parameter and
expert; and the mean and the spread of several recipes.

Where the layout of the models is not known, rows are the groups that the candidates' recipes name. This file knows
nothing about scores.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from evomerge.errors import UsageError
from evomerge.recipes import Layout, Recipe
from evomerge.recipes.groups import ALL, OUTSIDE, PARTS, group_of, parse_group, place
from evomerge.search.page.numbers import short

Cells = list[list[float | None]]

_AFTER = ("norms", "head", "encoder", "projector", "other")


class Grid:
    """Rows and columns that are common to all pictures of a run.

    Args:
        layout: of the models, None if it is not known.
        recipes: those that the columns (and without a layout the rows) are taken from: all that will be drawn, the
            candidates' first.
    """

    def __init__(self, layout: Layout | None, recipes: Sequence[Recipe]) -> None:
        named = list(dict.fromkeys(group for recipe in recipes for group in _groups(recipe)))
        if layout is None:
            own = list(dict.fromkeys(_groups(recipes[0]))) if recipes else []
            self.rows, self.columns = own, [ALL]
            self._cells: list[list[str | None]] = [[row] for row in own]
            self._find = self._named
        else:
            apart = any(parse_group(group).part for group in named)
            self.columns = [ALL, *PARTS] if apart else [ALL]
            self.rows, self._cells = _outlined(layout, self.columns)
            self._find = self._held
        self._index = cache(self._place)

    def draw(self, recipe: Recipe) -> dict[str, Any]:
        """Return the pictures of a recipe, a cell being None where it has no such place or no number there."""
        parameters: dict[str, dict[str, Cells]] = {
            name: {expert: self._values(groups) for expert, groups in by_expert.items()}
            for name, by_expert in recipe.parameters.items()
        }
        for name, groups in recipe.options.items():
            if all(isinstance(value, float) for value in groups.values()):
                parameters[name] = {ALL: self._values(groups)}
        return {"rows": self.rows, "columns": self.columns, "parameters": parameters}

    def mean_and_spread(self, recipes: Sequence[Recipe]) -> dict[str, Any]:
        """Return mean and standard deviation of several recipes, each as pictures.

        A cell counts those recipes that have a number there; of fewer than two there is no spread.
        """
        drawn = [self.draw(recipe)["parameters"] for recipe in recipes]
        means: dict[str, dict[str, Cells]] = {}
        spreads: dict[str, dict[str, Cells]] = {}
        for name, expert in dict.fromkeys((n, e) for p in drawn for n, by_expert in p.items() for e in by_expert):
            stack = np.array([p[name][expert] for p in drawn if expert in p.get(name, {})], dtype=float)
            known = ~np.isnan(stack)
            count = known.sum(axis=0)
            mean = np.where(known, stack, 0.0).sum(axis=0) / np.maximum(count, 1)
            square = np.where(known, (stack - mean) ** 2, 0.0).sum(axis=0) / np.maximum(count - 1, 1)
            means.setdefault(name, {})[expert] = _cells(np.where(count > 0, mean, np.nan))
            spreads.setdefault(name, {})[expert] = _cells(np.where(count > 1, np.sqrt(square), np.nan))
        shape = {"rows": self.rows, "columns": self.columns}
        return {"mean": {**shape, "parameters": means}, "spread": {**shape, "parameters": spreads}}

    def _values(self, groups: Mapping[str, Any]) -> Cells:
        index = self._index(tuple(groups))
        numbers = {group: short(value) if isinstance(value, float) else None for group, value in groups.items()}
        return [[None if group is None else numbers[group] for group in row] for row in index]

    def _place(self, groups: tuple[str, ...]) -> list[list[str | None]]:
        """The one of `groups` that each cell takes its value from."""
        return [[None if cell is None else self._find(cell, groups) for cell in row] for row in self._cells]

    @staticmethod
    def _held(cell: str, groups: tuple[str, ...]) -> str | None:
        try:
            return group_of(cell, groups)  # the cell is a tensor
        except UsageError:
            return None

    @staticmethod
    def _named(cell: str, groups: tuple[str, ...]) -> str | None:
        return cell if cell in groups else (ALL if groups == (ALL,) else None)


def _groups(recipe: Recipe) -> list[str]:
    return [group for by_expert in recipe.parameters.values() for groups in by_expert.values() for group in groups]


def _outlined(layout: Layout, columns: Sequence[str]) -> tuple[list[str], list[list[str | None]]]:
    """Return rows, and for each cell a tensor that lies there: embeddings, layers, and what comes after them."""
    assert set(_AFTER) | {"embeddings"} == set(OUTSIDE)
    places = {tensor: place(tensor) for tensor in layout.outline.tensors}
    outside = {where.kind: tensor for tensor, where in places.items() if where.layer is None}
    inside = {(where.layer, where.part): tensor for tensor, where in places.items() if where.layer is not None}
    rows: list[str] = []
    cells: list[list[str | None]] = []
    layers = [f"layers.{layer}" for layer in range(layout.layers)]
    for row in ["embeddings", *layers, *_AFTER]:
        if row in outside:
            held: list[str | None] = [outside[row], *[None] * (len(columns) - 1)]
        elif row in layers:
            own = [inside.get((layers.index(row), part)) for part in PARTS]
            held = [None, *own] if len(columns) > 1 else [next((tensor for tensor in own if tensor), None)]
        else:
            continue
        rows.append(row)
        cells.append(held)
    return rows, cells


def _cells(matrix: Any) -> Cells:
    return [[None if math.isnan(value) else short(value) for value in row] for row in matrix.tolist()]
