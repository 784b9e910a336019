"""Which entries of a weight file are no weights: things that a model computes for itself when it is built.

Older files hold causal masks, position numbers and rotary frequencies beside the weights. They carry nothing that was
trained, and transformers makes them anew, so they are left out of the merge and of what is written. Everything is told
from name, type and shape, for no architecture in particular.
"""

import torch

from evomerge.checkpoints.header import Entry

_COMPUTED = ("inv_freq", "masked_bias", "position_ids")


def is_buffer(name: str, entry: Entry) -> bool:
    """Say whether an entry is a buffer.

    That is: truth values and 64-bit integers (masks, position numbers, counters; weights are quantised to narrower
    integers); a square mask with two dimensions of 1 before it, in any type, that is called a bias or a mask (GPT-2's
    and GPT-NeoX's causal masks); and `inv_freq`, `masked_bias`, `position_ids`.
    """
    last = name.rsplit(".", 1)[-1]
    if entry.dtype in (torch.bool, torch.int64) or last in _COMPUTED:
        return True
    shape = entry.shape
    square = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
    return square and (last == "bias" or "mask" in last)
