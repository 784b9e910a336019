"""What a setting of mergekit's is worth at a tensor: plain values, gradients over layers, lists of filters.

A gradient is a list of values along the layers of a slice: its first is that of the slice's first layer, its last that
of the last, and between them it is linear. Tensors outside the layers take the first. This file knows nothing about
recipes.
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from evomerge.errors import UsageError, refuse_unknown
from evomerge.mergekit.words import Kind

Value = float | bool


def varies(setting: Any) -> bool:
    """Say whether a setting may differ between tensors."""
    return isinstance(setting, list | Mapping)


def first_set(scopes: Iterable[Mapping[str, Any]], name: str, kind: Kind, tensor: str, t: float) -> Value | None:
    """Return the value of parameter `name` at a tensor, from the first scope that gives it one; None if none does.

    Args:
        scopes: parameters, the ones that go first first.
        name: of the parameter.
        kind: what its value is.
        tensor: the tensor's name.
        t: where its layer is in its slice, from 0 (the first) to 1 (the last); 0 outside the layers.

    Raises `UsageError` for what is no setting.
    """
    for scope in scopes:
        if name in scope:
            value = evaluate(scope[name], kind, tensor, t, name)
            if value is not None:
                return value
    return None


def evaluate(setting: Any, kind: Kind, tensor: str, t: float, name: str) -> Value | None:
    """Return the value of a setting at a tensor, or None if none of its filters fits."""
    if isinstance(setting, Mapping):
        setting = [setting]
    if not isinstance(setting, list):
        return _value(setting, kind, name)
    if not any(isinstance(entry, Mapping) for entry in setting):
        return _along(setting, kind, t, name)
    for entry in setting:
        if not isinstance(entry, Mapping) or "value" not in entry:
            raise UsageError(f"mergekit: {name}: a list must be all values or all mappings with filter and value")
        refuse_unknown(entry, ("filter", "value"), f"mergekit: {name}")
        wanted = entry.get("filter")
        if wanted is not None and not isinstance(wanted, str):
            raise UsageError(f"mergekit: {name}: filter {wanted!r} is not a text")
        if wanted is None or wanted == "*" or wanted in tensor:
            value = entry["value"]
            return _along(value, kind, t, name) if isinstance(value, list) else _value(value, kind, name)
    return None


def _along(gradient: list[Any], kind: Kind, t: float, name: str) -> Value | None:
    """Return the value of a gradient at t."""
    if not gradient:
        return None
    values = [_value(entry, kind, name) for entry in gradient]
    at = t * (len(values) - 1)
    before = int(at)
    if kind == "flag":
        return values[before]
    after = min(before + 1, len(values) - 1)
    share = at - before
    return (1 - share) * values[before] + share * values[after]


_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "y", "t", "1"), True),
    **dict.fromkeys(("false", "no", "off", "n", "f", "0"), False),
}


def _value(data: Any, kind: Kind, name: str) -> Value:
    """Return one value; texts that hold one count, as YAML takes 1e-5 for a text."""
    if kind == "flag":
        flag = (
            data
            if isinstance(data, bool)
            else _FLAGS.get(f"{data:g}" if isinstance(data, float) else str(data).lower())
        )
        if flag is None:
            raise UsageError(f"mergekit: {name}: {data!r} is neither true nor false")
        return flag
    try:
        number = float(data)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"mergekit: {name}: {data!r} is not a number") from None
    if not math.isfinite(number):
        raise UsageError(f"mergekit: {name}: {data!r} is not a finite number")
    if kind == "whole" and number != int(number):
        raise UsageError(f"mergekit: {name}: {data!r} is not a whole number")
    return number
