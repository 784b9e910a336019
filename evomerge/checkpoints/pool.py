"""The models of one merge: a base and its experts, proved to fit together before anything is computed.

This file knows nothing about methods or recipes, only about what must agree for a tensor-by-tensor merge to make
sense.
"""

from collections.abc import Mapping
from pathlib import Path

import torch

from evomerge.checkpoints.checkpoint import Checkpoint
from evomerge.checkpoints.reference import resolve
from evomerge.checkpoints.tokenizer import tokenizer_difference
from evomerge.errors import UsageError
from evomerge.recipes import Layout
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
_CHECK_BLOCK = 1 << 20


class ModelPool:
    """A base and its experts; made by `open`.

    Attributes:
        base: the base checkpoint.
        experts: label -> checkpoint, in label order.
        references: label -> reference as given, `""` for the base.
        layout: the tensors that are merged. An output head that is tied to the embeddings is not one of them, whether
            its file holds a copy or not.
    """

    def __init__(
        self, base: Checkpoint, experts: Mapping[str, Checkpoint], references: Mapping[str, str], layout: Layout
    ) -> None:
        self.base = base
        self.experts = dict(sorted(experts.items()))
        self.references = dict(references)
        self.layout = layout

    @classmethod
    def open(cls, base: str, experts: Mapping[str, str], *, check_weights: bool = True) -> "ModelPool":
        """Open a base and its experts and check that they merge.

        Args:
            base: reference of the base.
            experts: label -> reference, at least one.
            check_weights: also read every weight once, to refuse NaN and infinity.

        Raises `UsageError` naming the model, the first difference and what to do.
        """
        if not experts:
            raise UsageError("no experts; name at least one as 'label: reference'")
        opened = {label: _open(f"expert {label!r}", text) for label, text in experts.items()}
        root = _open("base", base)
        names = _merged_names(root)
        for label, checkpoint in sorted(opened.items()):
            _refuse_difference(root, names, checkpoint, f"expert {label!r} ({experts[label]})")
        pool = cls(root, opened, {"": base, **experts}, Layout.of(names))
        if check_weights:
            pool.check_weights()
        return pool

    def check_weights(self) -> None:
        """Read every weight; `UsageError` naming model and tensor at the first NaN or infinity."""
        for label, checkpoint in {"": self.base, **self.experts}.items():
            what = f"expert {label!r}" if label else "base"
            for name in self.layout.tensors:
                flat = checkpoint.tensor(name).reshape(-1)
                for first in range(0, flat.numel(), _CHECK_BLOCK):
                    if not bool(torch.isfinite(flat[first : first + _CHECK_BLOCK]).all()):
                        raise UsageError(
                            f"{what} ({self.references[label]}): tensor {name!r} holds NaN or infinity; "
                            "the file is damaged or its training failed, take another"
                        )


def _open(what: str, reference: str) -> Checkpoint:
    try:
        return Checkpoint.open(resolve(reference))
    except UsageError as error:
        raise UsageError(f"{what}: {error}") from None


def _merged_names(checkpoint: Checkpoint) -> list[str]:
    """The tensors that have weights of their own: all, less an output head that is tied to the embeddings."""
    if not checkpoint.config.get("tie_word_embeddings"):
        return list(checkpoint.names)
    embeddings = [name for name in checkpoint.names if place(name).kind == "embeddings"]
    heads = [name for name in checkpoint.names if place(name).kind == "head" and embeddings]
    for name in heads:
        if not any(
            checkpoint.shape(name) == checkpoint.shape(other)
            and torch.equal(checkpoint.tensor(name), checkpoint.tensor(other))
            for other in embeddings
        ):
            raise UsageError(
                f"model {checkpoint.path}: its config ties the output head to the embeddings, but its file holds "
                f"another {name!r}; set tie_word_embeddings to false in config.json"
            )
    return [name for name in checkpoint.names if name not in heads]


def _refuse_difference(base: Checkpoint, names: list[str], expert: Checkpoint, what: str) -> None:
    """Raise `UsageError` for the first thing in which an expert differs from the base and must not."""
    for key in _SAME_CONFIG:
        ours, theirs = base.config.get(key), expert.config.get(key)
        if ours != theirs and ours is not None and theirs is not None:
            raise UsageError(
                f"{what}: {key} is {theirs!r}, the base has {ours!r}; only fine-tunes of the same base can be merged"
            )
    if bool(base.config.get("tie_word_embeddings")) != bool(expert.config.get("tie_word_embeddings")):
        raise UsageError(
            f"{what}: tie_word_embeddings is {expert.config.get('tie_word_embeddings')!r}, the base has "
            f"{base.config.get('tie_word_embeddings')!r}; untie the output head in both or in none"
        )
    theirs_names = _merged_names(expert)
    for name in sorted(set(names) ^ set(theirs_names)):
        lack = f"has no tensor {name!r}, the base has" if name in names else f"has tensor {name!r}, the base has not"
        raise UsageError(f"{what}: {lack}; only fine-tunes of the same base can be merged")
    for name in names:
        if base.shape(name) != expert.shape(name):
            hint = (
                "resize its embeddings to the base's vocabulary"
                if place(name).kind in ("embeddings", "head")
                else "only fine-tunes of the same base can be merged"
            )
            raise UsageError(
                f"{what}: tensor {name!r} has shape {list(expert.shape(name))}, the base has {list(base.shape(name))}; "
                f"{hint}"
            )
    _refuse_tokenizer(base.path, expert.path, what)


def _refuse_tokenizer(base: Path, expert: Path, what: str) -> None:
    try:
        difference = tokenizer_difference(base, expert)
    except (ValueError, OSError) as error:
        raise UsageError(f"{what}: cannot compare tokenizers: {error}") from None
    if difference:
        raise UsageError(
            f"{what}: its tokenizer differs from the base's: {difference} (base against expert); "
            "take an expert that was trained with the base's tokenizer"
        )
