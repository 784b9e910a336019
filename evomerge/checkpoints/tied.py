"""Output heads that are the embeddings: one matrix with two uses.

Whether a head is tied is said by config.json; where that is silent (transformers leaves a setting out that has its
default), by the file: a tied head is not stored, or stored as a copy. This file knows nothing about pools.
"""

import math
from collections.abc import Mapping
from typing import Any

from evomerge.checkpoints.model import Model
from evomerge.checkpoints.source import TensorSource
from evomerge.errors import UsageError
from evomerge.recipes.groups import place

_BLOCK = 1 << 20


def tie_setting(config: Mapping[str, Any]) -> bool | None:
    """Return tie_word_embeddings of a config, or of the language model inside it; None if neither says."""
    text = config.get("text_config")
    for part in (config, text if isinstance(text, dict) else {}):
        if isinstance(part.get("tie_word_embeddings"), bool):
            return bool(part["tie_word_embeddings"])
    return None


def token_embeddings(model: Model) -> str | None:
    """Return the name of the matrix with one row a token: the one of the embeddings with the most rows."""
    named = [name for name in model.names if place(name).kind == "embeddings" and len(model.shape(name)) == 2]
    return max(named, key=lambda name: model.shape(name)[0], default=None)


def tied_heads(model: Model) -> tuple[str, ...]:
    """Return the names of the heads in a model's file that are copies of its embeddings and no weights of their own.

    Raises `UsageError` if the config ties the head, but the file holds another one.
    """
    setting, embeddings = tie_setting(model.config), token_embeddings(model)
    heads = [name for name in model.names if place(name).kind == "head" and len(model.shape(name)) == 2]
    if setting is False or embeddings is None:
        return ()
    copies = tuple(name for name in heads if same_elements(model.source(name), model.source(embeddings)))
    if setting and copies != tuple(heads):
        raise UsageError(
            f"model {model.path}: its config ties the output head to the embeddings, but its file holds "
            f"another {min(set(heads) - set(copies))!r}; set tie_word_embeddings to false in config.json"
        )
    return copies


def is_tied(model: Model) -> bool:
    """Say whether a model's output head is its embeddings."""
    heads = [name for name in model.names if place(name).kind == "head" and len(model.shape(name)) == 2]
    setting = tie_setting(model.config)
    return setting if setting is not None else not heads or tuple(heads) == tied_heads(model)


def same_elements(one: TensorSource, two: TensorSource) -> bool:
    """Say whether two tensors have the same shape, dtype and bits; stops reading at the first difference."""
    if one.shape != two.shape or one.dtype != two.dtype:
        return False
    size = math.prod(one.shape)
    spans = ((first, min(first + _BLOCK, size)) for first in range(0, size, _BLOCK))
    return all(one.read(*span).equal(two.read(*span)) for span in spans)
