"""What must agree between a base and an expert for a tensor-by-tensor merge to make sense.

Each check refuses (`UsageError`) the first difference it finds, in one line that says what to do; the caller says of
which expert. This file knows nothing about methods or recipes.
"""

from collections.abc import Iterable
from pathlib import Path

from evomerge.checkpoints.checkpoint import Checkpoint
from evomerge.checkpoints.model import Model
from evomerge.checkpoints.source import TensorSource
from evomerge.checkpoints.tied import is_tied, tie_setting, tied_heads, token_embeddings
from evomerge.checkpoints.tokenizer import tokenizer_difference
from evomerge.errors import UsageError
from evomerge.recipes.groups import place

# What decides how the weights are used and cannot be told from their shapes.
_SAME_CONFIG = (
    "model_type",
    "architectures",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
)
_CHOICES = "or choose vocabulary base, union or intersection"


def merged_names(model: Model) -> list[str]:
    """Return the tensors that have weights of their own: all, less an output head that is tied to the embeddings."""
    copies = tied_heads(model)
    return [name for name in model.names if name not in copies]


def refuse_other_architecture(base: Checkpoint, expert: Model) -> None:
    """Hold an expert's config against the base's."""
    for key in _SAME_CONFIG:
        ours, theirs = base.config.get(key), expert.config.get(key)
        if ours != theirs and ours is not None and theirs is not None:
            raise UsageError(
                f"{key} is {theirs!r}, the base has {ours!r}; only fine-tunes of the same base can be merged"
            )


def untied_heads(base: Checkpoint, names: Iterable[str], expert: Model) -> dict[str, TensorSource]:
    """Return name -> tensor of the base's own heads that an expert ties: there, its head is its embeddings."""
    theirs = set(merged_names(expert))
    missing = [name for name in names if name not in theirs and place(name).kind == "head"]
    embeddings = token_embeddings(expert)
    if embeddings is None or not missing or not is_tied(expert):
        return {}
    return {name: expert.source(embeddings) for name in missing if len(base.shape(name)) == 2}


def refuse_other_tensors(names: Iterable[str], base: Checkpoint, expert: Model, also: Iterable[str]) -> None:
    """Hold an expert's names against those of the base; `also`: those that it is given (see `untied_heads`)."""
    names, theirs = set(names), {*merged_names(expert), *also}
    for name in sorted(names ^ theirs):
        if name in theirs and place(name).kind == "head" and is_tied(base):
            raise UsageError(
                f"its output head is its own (tie_word_embeddings is {tie_setting(expert.config)!r}), the base's is "
                "tied to the embeddings; take a base with an untied head for all"
            )
        lack = f"has no tensor {name!r}, the base has" if name in names else f"has tensor {name!r}, the base has not"
        raise UsageError(f"{lack}; only fine-tunes of the same base can be merged")


def refuse_other_shape(name: str, ours: tuple[int, ...], theirs: tuple[int, ...]) -> None:
    """Hold a tensor's shape in an expert against the base's."""
    if ours == theirs:
        return
    hint = "only fine-tunes of the same base can be merged"
    if place(name).kind in ("embeddings", "head"):
        hint = f"resize its embeddings to the base's vocabulary, {_CHOICES}"
    raise UsageError(f"tensor {name!r} has shape {list(theirs)}, the base has {list(ours)}; {hint}")


def refuse_other_tokenizer(base: Path, expert: Path) -> None:
    """Hold an expert's tokenizer against the base's."""
    try:
        difference = tokenizer_difference(base, expert)
    except (ValueError, OSError) as error:
        raise UsageError(f"cannot compare tokenizers: {error}") from None
    if difference:
        raise UsageError(
            f"its tokenizer differs from the base's: {difference} (base against expert); "
            f"take an expert that was trained with the base's tokenizer, {_CHOICES}"
        )
