"""Which group each tensor of a model falls into, folded so that equal layers are one line.

This file knows names and shapes only.
"""

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from evomerge.recipes.groups import OUTSIDE, PARTS, place


@dataclass(frozen=True)
class GroupRow:
    """A group of a model.

    Attributes:
        group: its name, as a recipe writes it; equal layers that follow each other share a row.
        tensors, parameters: how many it holds.
        names: the tensors in it, less what comes before the layer's own part of the name; each once.
    """

    group: str
    tensors: int
    parameters: int
    names: tuple[str, ...]


def group_rows(shapes: Mapping[str, tuple[int, ...]]) -> list[GroupRow]:
    """Return the groups of a model with these tensors: embeddings, runs of equal layers part by part, the rest."""
    outside: dict[str, list[str]] = defaultdict(list)
    layers: dict[int, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in sorted(shapes):
        where = place(name)
        if where.layer is None or where.part is None:
            outside[where.kind].append(name)
        else:
            layers[where.layer][where.part].append(name)
    rows = []
    for run in _runs(layers, shapes):
        block = f"layers.{run[0]}" if len(run) == 1 else f"layers.{run[0]}-{run[-1]}"
        for part in PARTS:
            held = [name for layer in run for name in layers[layer].get(part, [])]
            if held:
                rows.append(_row(f"{block}.{part}", held, shapes))
    first = [_row(kind, outside[kind], shapes) for kind in OUTSIDE[:1] if kind in outside]
    return [*first, *rows, *(_row(kind, outside[kind], shapes) for kind in OUTSIDE[1:] if kind in outside)]


def _row(group: str, names: list[str], shapes: Mapping[str, tuple[int, ...]]) -> GroupRow:
    own = tuple(dict.fromkeys(_own(name) for name in names))
    return GroupRow(group, len(names), sum(math.prod(shapes[name]) for name in names), own)


def _runs(layers: Mapping[int, Mapping[str, list[str]]], shapes: Mapping[str, tuple[int, ...]]) -> list[list[int]]:
    """Divide the layers into runs of neighbours with the same tensors."""
    runs: list[list[int]] = []
    before = None
    for layer in sorted(layers):
        look = {_own(name): shapes[name] for names in layers[layer].values() for name in names}
        if runs and look == before and runs[-1][-1] == layer - 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
        before = look
    return runs


def _own(name: str) -> str:
    """Return a tensor's name inside its layer, experts of a mixture as one: `mlp.experts.*.up_proj.weight`."""
    layer = place(name).layer
    inside = name if layer is None else name.partition(f".{layer}.")[2]
    return re.sub(r"\.\d+(?=\.)", ".*", inside)
