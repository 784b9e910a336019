"""From one value a tensor to a value that mergekit understands: a plain one, or a list of filters and values.

mergekit looks a parameter up by the tensor's name: the first entry whose filter is a part of the name gives the value,
and an entry without filter fits every tensor. A name can be part of another (`norm.weight` of
`layers.0.norm.weight`), so which tensors a filter fits is always counted out. This file knows nothing about recipes.
"""

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from evomerge.recipes.groups import place
from evomerge.recipes.recipe import Value


def conditions(values: Mapping[str, Value]) -> Any:
    """Return a setting of mergekit's that gives each tensor its value.

    Args:
        values: tensor name -> value; at least one.

    Returns the value itself where all are equal, else a list of {filter, value}, the last without filter. It is exact,
    and short: a filter that fits many tensors comes first.
    """
    common = Counter(values.values()).most_common()
    if len(common) == 1:
        return common[0][0]
    tensors = tuple(values)
    masks: dict[Value, int] = {}
    for index, value in enumerate(values.values()):
        masks[value] = masks.get(value, 0) | 1 << index
    lists = [_decision_list(tensors, masks, fallback) for fallback in (common[0][0], None)]
    return min(lists, key=len)


def _decision_list(tensors: tuple[str, ...], masks: Mapping[Value, int], fallback: Value | None) -> list[Any]:
    """Return entries that give the tensors of each mask their value; `fallback` needs no filter (None: any)."""
    entries: list[Any] = []
    remaining = (1 << len(tensors)) - 1
    while True:
        left = [value for value, mask in masks.items() if mask & remaining]
        if len(left) == 1:
            return [*entries, {"value": left[0]}]
        targets = [mask & remaining for value, mask in masks.items() if fallback is None or value != fallback]
        best, found = 0, ""
        for text, fits in _candidates(tensors):
            covered = fits & remaining
            if covered.bit_count() > best.bit_count() and any(covered & ~target == 0 for target in targets):
                best, found = covered, text
        if not best:
            # the longest name that is left is part of no other
            longest = max((i for i in range(len(tensors)) if remaining >> i & 1), key=lambda i: len(tensors[i]))
            best, found = 1 << longest, tensors[longest]
        value = next(value for value, mask in masks.items() if mask & best)
        entries.append({"filter": found, "value": value})
        remaining &= ~best


@lru_cache(maxsize=8)
def _candidates(tensors: tuple[str, ...]) -> list[tuple[str, int]]:
    """Return filters and the tensors each fits, as bits; the shorter text first."""
    texts = {text for tensor in tensors for text in _parts(tensor)}
    ordered = sorted(texts, key=lambda text: (len(text), text))
    return [(text, sum(1 << i for i, tensor in enumerate(tensors) if text in tensor)) for text in ordered]


def _parts(tensor: str) -> set[str]:
    """Return the filters that a person would think of for a tensor: its words, its layer, the parts of its layer."""
    words = tensor.split(".")
    result = {word for word in words[:-1] if not word.isdigit()} | {tensor}
    layer = place(tensor).layer
    if layer is None:
        return result
    at = words.index(str(layer))
    stem = f"{words[at - 1]}.{layer}."
    result.add(stem)
    for word in words[at + 1 : -1]:
        if word.isdigit():
            break
        stem += word
        result.add(stem)
        stem += "."
    return result
