"""What headers and a config say about models before a weight is read: tensors, sizes, keys and values of a token.

Models that are not on this machine are known by their config alone (`models.shape`): transformers builds the model on
the meta device, where tensors have a shape and no memory. This file knows nothing about searches.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.reference import ModelReference, resolve
from evomerge.errors import UsageError, refuse_unknown
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.refusals import REFUSALS, reason
from evomerge.merging.residence import pool_bytes
from evomerge.merging.tensors import TORCH_DTYPES
from evomerge.recipes import Layout

#: Keys of `models.shape` that are not the config's own.
_OWN = ("dtype", "torch_dtype")


@dataclass(frozen=True)
class Shape:
    """The shape of a base and its experts.

    Attributes:
        layout: the tensors that are merged.
        elements: merged tensor -> number of elements.
        weight_bytes: of base and experts together, merged tensors only, as they are kept in memory.
        narrow: the weights have 16 bits, so that differences of theirs repeat.
        companion_bytes: tokenizer and settings beside the weights, 0 where the files are not here.
        layers, hidden, intermediate, vocabulary: of the language model.
        cache_values: numbers that a token leaves in the cache of keys and values.
    """

    layout: Layout
    elements: Mapping[str, int]
    weight_bytes: int
    narrow: bool
    companion_bytes: int
    layers: int
    hidden: int
    intermediate: int
    vocabulary: int
    cache_values: int

    @property
    def parameters(self) -> int:
        """The number of merged weights of one model."""
        return sum(self.elements.values())

    @property
    def largest(self) -> int:
        """The elements of the largest tensor."""
        return max(self.elements.values())

    @classmethod
    def of_pool(cls, pool: ModelPool) -> "Shape":
        """Read it off the headers of models that are here."""
        config = dict(pool.config)
        family = config.pop("model_type", None)
        if not isinstance(family, str):
            raise UsageError(f"{pool.base.path / 'config.json'}: has no model_type")
        names = pool.layout.tensors
        weights = {pool.source(label, name).dtype for label in ("", *pool.experts) for name in names}
        beside = sum(
            file.stat().st_size
            for file in pool.base.path.iterdir()
            if file.is_file() and file.suffix not in (".safetensors", ".md")
        )
        return cls(
            layout=pool.layout,
            elements={name: math.prod(pool.shape(name)) for name in names},
            weight_bytes=pool_bytes(pool, names),
            narrow=all(dtype.itemsize == 2 for dtype in weights),
            companion_bytes=beside,
            **_language_model(_config(family, config, str(pool.base.path / "config.json"))),
        )

    @classmethod
    def of_config(cls, data: Mapping[str, Any], *, experts: int, dtype: str) -> "Shape":
        """Build it from a transformers config as plain data.

        Args:
            data: `model_type` and the rest of a config.json; `dtype`: of the files, else that of the merged model.
            experts: how many full models beside the base.
            dtype: of the merged model.

        Raises `UsageError` if transformers cannot build a causal language model from it.
        """
        family = data.get("model_type")
        if not isinstance(family, str):
            raise UsageError("models.shape: model_type is missing; write what config.json of the models says")
        rest = {key: value for key, value in data.items() if key not in ("model_type", *_OWN)}
        stored = str(data.get("dtype") or data.get("torch_dtype") or dtype)
        refuse_unknown([stored], TORCH_DTYPES, "models.shape.dtype")
        config = _config(family, rest, "models.shape")
        try:
            with undisturbed(), torch.device("meta"):
                model = AutoModelForCausalLM.from_config(config)
        except (*REFUSALS, RuntimeError) as error:
            raise UsageError(f"models.shape: transformers cannot build it: {reason(error)}") from None
        elements = {name: tensor.numel() for name, tensor in model.named_parameters()}  # tied ones once
        return cls(
            layout=Layout.of(elements),
            elements=elements,
            weight_bytes=(experts + 1) * sum(elements.values()) * TORCH_DTYPES[stored].itemsize,
            narrow=TORCH_DTYPES[stored].itemsize == 2,
            companion_bytes=0,
            **_language_model(config),
        )


def absent_models(references: Sequence[str]) -> list[str]:
    """Return the references whose files are not on this machine; nothing is fetched."""
    return [reference for reference in references if not _is_here(ModelReference.parse(reference))]


def _is_here(reference: ModelReference) -> bool:
    if reference.kind != "hub":
        resolve(reference)
        return True
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(reference.name, revision=reference.revision, local_files_only=True))
    except (LocalEntryNotFoundError, OSError, ValueError):
        return False
    return any(folder.glob("*.safetensors"))


def _config(family: str, data: Mapping[str, Any], where: str) -> Any:
    try:
        with undisturbed():
            return AutoConfig.for_model(family, **data)
    except REFUSALS as error:
        raise UsageError(f"{where}: transformers does not understand it: {reason(error)}") from None


def _language_model(config: Any) -> dict[str, int]:
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return {
        "layers": int(text.num_hidden_layers),
        "hidden": int(text.hidden_size),
        "intermediate": int(getattr(text, "intermediate_size", None) or 4 * text.hidden_size),
        "vocabulary": int(text.vocab_size),
        "cache_values": 2 * int(text.num_hidden_layers) * int(heads) * int(size),
    }
