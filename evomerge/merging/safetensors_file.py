"""Writing a safetensors file tensor by tensor, with the same bytes for the same content.

The safetensors package's own writer wants all tensors at once and orders metadata at random. This file knows the format
(8 bytes of header length, a JSON header, the tensors) and nothing else.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from evomerge.merging.fingerprint import bit_words

_NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def write_safetensors(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    tensors: Iterable[torch.Tensor],
    *,
    metadata: Mapping[str, str],
) -> None:
    """Write a file whose tensors all have one dtype.

    Args:
        path: where to.
        shapes: name -> shape, in the order of the file.
        dtype: of all tensors.
        tensors: the tensors in that order; only one is held at a time.
        metadata: the file's text metadata.
    """
    header: dict[str, object] = {"__metadata__": dict(sorted(metadata.items()))}
    position = 0
    for name, shape in shapes.items():
        end = position + math.prod(shape) * dtype.itemsize
        header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape, tensor in zip(shapes.values(), tensors, strict=True):
            assert (tuple(tensor.shape), tensor.dtype) == (shape, dtype)
            words = bit_words(tensor)
            file.write(words.astype(words.dtype.newbyteorder("<"), copy=False).data)
