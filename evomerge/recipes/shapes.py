"""Shapes: a parameter's value in every layer, from a few numbers.

In a recipe a shape stands where the groups of a value would:

    weight:
      code: {shape: lines, layers: 24, alpha: 0.3, beta: 0.5}
      math: {shape: gradient, layers: 24, anchors: [0.2, 0.8, 0.5]}
      swahili: {shape: swap, layers: 24, bottom: 5, top: 2, ends: 1.0, middle: 0.0}

    lines      alpha in the first layer, alpha + beta in the last, on a line between them; alpha outside the layers
    gradient   the anchors spread evenly over the layers, on lines between them; embeddings and other tensors outside
               the layers have the first anchor, norms and head the last
    swap       `ends` in the `bottom` first and the `top` last layers and outside the layers, `middle` between them, and
               the mean of both in `transition` layers (default 1) on each side of the middle

`layers` is the number of the model's layers. Every tensor outside the layers is in a group of its own kind and none in
`all`, so that a model with more layers than that is refused and not merged with other values than were meant. This file
knows nothing about recipes, methods or what the values are for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest, refuse_unknown
from evomerge.recipes.groups import OUTSIDE

#: The key that tells a shape from groups.
SHAPE = "shape"

#: Kinds of tensors that come after the layers.
_LAST = ("norms", "head")


def lines(layers: int, *, alpha: float, beta: float) -> dict[str, float]:
    """Return LiNeS (Wang et al., 2410.17146): alpha + beta l / (L - 1) in layer l of L, alpha outside the layers.

    Args:
        layers: L, at least 2.
        alpha, beta: finite.

    Returns group -> value: a group for every layer and every kind of tensor outside the layers.
    """
    inside = [alpha + beta * (layer / (layers - 1)) for layer in range(layers)]
    return _groups(inside, first=alpha, last=alpha)


def gradient(layers: int, *, anchors: Sequence[float]) -> dict[str, float]:
    """Return anchors interpolated linearly over the layers, as in mergekit: the first at layer 0, the last at L - 1.

    Args:
        layers: L, at least 2.
        anchors: two numbers or more.

    Returns group -> value. Norms and head outside the layers take the last anchor, all else outside the first.
    """
    inside = []
    for layer in range(layers):
        at = layer * (len(anchors) - 1) / (layers - 1)
        left = min(int(at), len(anchors) - 2)
        a, b = anchors[left], anchors[left + 1]
        share = at - left
        # min/max: rounding must not leave the anchors' bounds
        inside.append(min(max((1.0 - share) * a + share * b, min(a, b)), max(a, b)))
    return _groups(inside, first=anchors[0], last=anchors[-1])


def swap(layers: int, *, bottom: int, top: int, ends: float, middle: float, transition: int = 1) -> dict[str, float]:
    """Return Layer Swapping (Bandarkar et al., 2410.01335) for one expert.

    The language expert has the weight 1 at the ends and 0 in the middle, the other one 0 and 1; both one half in the
    transition layers. The paper's own numbers for 32 layers are bottom 5, top 2, transition 1.

    Args:
        layers: L, at least `bottom + top + 2 * transition`.
        bottom, top: how many layers the ends have.
        ends: value of the ends, and outside the layers.
        middle: value between them.
        transition: how many layers on each side of the middle have the mean of both values.

    Returns group -> value.
    """
    between = (ends + middle) / 2
    zone = [between] * transition
    inside = [ends] * bottom + zone + [middle] * (layers - bottom - top - 2 * transition) + zone + [ends] * top
    return _groups(inside, first=ends, last=ends)


def expand(data: Mapping[str, Any], where: str) -> dict[str, float]:
    """Return the groups that a shape stands for.

    Args:
        data: the shape as it is written in a recipe.
        where: what it is a value of, for errors.

    Raises `UsageError` for unknown or missing keys (the nearest known is named) and numbers that make no shape.
    """
    name = str(data[SHAPE])
    if name not in _READERS:
        raise UsageError(f"{where}: unknown shape {name!r}; {nearest(name, _READERS)}")
    return _READERS[name](data, f"{where}: shape {name}")


def _lines(data: Mapping[str, Any], where: str) -> dict[str, float]:
    _check_keys(data, ("layers", "alpha", "beta"), where)
    layers = whole(data["layers"], f"{where}: layers", least=2)
    return lines(layers, alpha=_number(data, "alpha", where), beta=_number(data, "beta", where))


def _gradient(data: Mapping[str, Any], where: str) -> dict[str, float]:
    _check_keys(data, ("layers", "anchors"), where)
    layers, anchors = whole(data["layers"], f"{where}: layers", least=2), data["anchors"]
    if not isinstance(anchors, Sequence) or isinstance(anchors, str) or len(anchors) < 2:
        raise UsageError(f"{where}: anchors must be a list of two numbers or more, not {anchors!r}")
    return gradient(layers, anchors=[number(anchor, f"{where}: anchors") for anchor in anchors])


def _swap(data: Mapping[str, Any], where: str) -> dict[str, float]:
    _check_keys(data, ("layers", "bottom", "top", "ends", "middle"), where, optional=("transition",))
    layers = whole(data["layers"], f"{where}: layers", least=1)
    bottom, top, transition = (whole(data.get(key, 1), f"{where}: {key}") for key in ("bottom", "top", "transition"))
    if bottom + top + 2 * transition > layers:
        raise UsageError(
            f"{where}: bottom {bottom}, top {top} and two transitions of {transition} are more than {layers} layers"
        )
    ends, middle = _number(data, "ends", where), _number(data, "middle", where)
    return swap(layers, bottom=bottom, top=top, ends=ends, middle=middle, transition=transition)


_READERS: Mapping[str, Callable[[Mapping[str, Any], str], dict[str, float]]] = {
    "lines": _lines,
    "gradient": _gradient,
    "swap": _swap,
}


def _check_keys(data: Mapping[str, Any], needed: Sequence[str], where: str, *, optional: Sequence[str] = ()) -> None:
    refuse_unknown(data, (SHAPE, *needed, *optional), where)
    for key in needed:
        if key not in data:
            raise UsageError(f"{where}: needs {', '.join(needed)}; {key} is missing")


def _number(data: Mapping[str, Any], key: str, where: str) -> float:
    return number(data[key], f"{where}: {key}")


def _groups(inside: Sequence[float], *, first: float, last: float) -> dict[str, float]:
    outside = {kind: last if kind in _LAST else first for kind in OUTSIDE}
    return outside | {f"layers.{layer}": value for layer, value in enumerate(inside)}
