"""The stacks of layers in a model as mergekit counts them: by the first number in a tensor's name.

Most models have one stack, a vision-language model one for each kind of input. (For groups the layers are those of the
language model alone; mergekit's gradients run over every stack.) This file knows names only.
"""

import re

from evomerge.recipes.groups import Layout

_INDEX = re.compile(r"\.(\d+)\.")


def stack_of(tensor: str) -> tuple[str, int] | None:
    """Return the stack that a tensor belongs to (its name up to the layer's number) and its layer; None outside."""
    match = _INDEX.search(tensor)
    return (tensor[: match.start()], int(match.group(1))) if match else None


def stacks(layout: Layout) -> dict[str, int]:
    """Return stack -> number of layers, sorted by name."""
    counts: dict[str, int] = {}
    for stack, layer in filter(None, map(stack_of, layout.tensors)):
        counts[stack] = max(counts.get(stack, 0), layer + 1)
    return dict(sorted(counts.items()))
