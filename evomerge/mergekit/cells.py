"""From one value a tensor back to groups: the shortest set of groups that gives every tensor its value.

This file knows names only; no models, no mergekit.
"""

from collections import Counter
from collections.abc import Mapping

from evomerge.errors import UsageError
from evomerge.recipes.groups import ALL, Place, place, value_at
from evomerge.recipes.recipe import Value

_Layers = Mapping[int, Mapping[str | None, Value]]


def to_groups(values: Mapping[str, Value], where: str) -> dict[str, Value]:
    """Return group -> value.

    Args:
        values: tensor name -> value; at least one.
        where: what the values are of, for the error.

    Raises `UsageError`, naming two tensors, where tensors that no group tells apart have different values.
    """
    if len(set(values.values())) == 1:
        return {ALL: next(iter(values.values()))}
    cells: dict[Place, tuple[str, Value]] = {}
    for tensor, value in values.items():
        first, held = cells.setdefault(place(tensor), (tensor, value))
        if held != value:
            raise UsageError(
                f"{where} is {held} at tensor {first!r} but {value} at {tensor!r}: evomerge sets values for layers and "
                "their attention, mlp and rest, not for single tensors; give both the same value"
            )
    layers: dict[int, dict[str | None, Value]] = {}
    outside: dict[str, Value] = {}
    for where_, (_, value) in cells.items():
        if where_.layer is None:
            outside[where_.kind] = value
        else:
            layers.setdefault(where_.layer, {})[where_.part] = value
    inside = min(_by_layer(layers), _by_part(layers), key=len)
    groups = _with_fallback(outside, inside)
    for tensor, value in values.items():
        assert value_at(groups, tensor) == value, tensor
    return groups


def _by_layer(layers: _Layers) -> dict[str, Value]:
    """Runs of layers that are alike in all their parts."""
    groups: dict[str, Value] = {}
    for first, last in _runs({layer: tuple(sorted(parts.items(), key=repr)) for layer, parts in layers.items()}):
        parts = layers[first]
        name = _name(first, last, layers)
        if len(set(parts.values())) == 1:
            groups[name] = next(iter(parts.values()))
        else:
            groups |= {f"{name}.{part}": value for part, value in parts.items()}
    return groups


def _by_part(layers: _Layers) -> dict[str, Value]:
    """Runs of layers for each part apart."""
    groups: dict[str, Value] = {}
    for part in sorted({part for parts in layers.values() for part in parts}, key=str):
        of_part = {layer: parts[part] for layer, parts in layers.items() if part in parts}
        groups |= {f"{_name(a, b, of_part)}.{part}": of_part[a] for a, b in _runs(of_part)}
    return groups


def _runs(marks: Mapping[int, object]) -> list[tuple[int, int]]:
    """Return (first, last) of the runs of consecutive layers with equal marks."""
    runs: list[tuple[int, int]] = []
    for layer in sorted(marks):
        if runs and runs[-1][1] == layer - 1 and marks[layer] == marks[runs[-1][0]]:
            runs[-1] = (runs[-1][0], layer)
        else:
            runs.append((layer, layer))
    return runs


def _name(first: int, last: int, layers: Mapping[int, object]) -> str:
    if first == min(layers) and last == max(layers) and len(layers) == last - first + 1 and first == 0:
        return "layers"
    return f"layers.{first}" if first == last else f"layers.{first}-{last}"


def _with_fallback(outside: Mapping[str, Value], inside: Mapping[str, Value]) -> dict[str, Value]:
    """Let `all` stand for the value that most groups share, if several do."""
    groups = {**outside, **inside}
    value, count = Counter(groups.values()).most_common(1)[0]
    if count < 2:
        return groups
    return {ALL: value, **{group: other for group, other in groups.items() if other != value}}
