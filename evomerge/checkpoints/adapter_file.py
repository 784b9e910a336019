"""From the entries of an adapter's file to the base's tensors that they change.

peft names an entry after the module it belongs to, as the running model calls it, and the role it plays there. This
file turns them into sources; what an entry means is said in `lora.py`, which adapters are taken in `adapter_config.py`.
"""

import re
from collections.abc import Callable
from pathlib import Path

import torch

from evomerge.checkpoints.adapter_config import AdapterConfig
from evomerge.checkpoints.checkpoint import Checkpoint
from evomerge.checkpoints.header import read_header, refused_type
from evomerge.checkpoints.lora import DoraSource, LoraSource
from evomerge.checkpoints.source import FileSource, TensorSource, WeightFile, read_all
from evomerge.checkpoints.tied import is_tied, same_elements, token_embeddings
from evomerge.errors import UsageError
from evomerge.recipes.groups import place

_PREFIX = "base_model.model."
_ROLES = re.compile(
    r"(.+)\.(lora_A\.weight|lora_B\.weight|lora_embedding_A|lora_embedding_B|lora_B\.bias|lora_magnitude_vector)"
)
_IN_LAYER = re.compile(r"\b(?:layers|h|blocks|layer|block)\.\d+\..+")

Roles = dict[str, TensorSource]


class AdapterFile:
    """The tensors of one adapter file, seen against a base."""

    def __init__(self, path: Path, base: Checkpoint, config: AdapterConfig) -> None:
        self._path = path
        self._base = base
        self._config = config
        self._embeddings = token_embeddings(base)
        self._tied = is_tied(base)

    def changes(self) -> dict[str, TensorSource]:
        """Return name of a base's tensor -> the tensor that the adapter makes of it; `UsageError` if it cannot."""
        changed, modules = self._read()
        for module, roles in modules.items():
            name = self._named(f"{module}.weight")
            changed[name] = self._product(module, roles, changed.get(name) or self._stored(name))
            if "lora_B.bias" in roles:
                name = self._named(f"{module}.bias")
                changed[name] = self._bias(module, roles, changed.get(name) or self._stored(name))
        for name, source in changed.items():
            ours = self._stored(name).shape
            grown = place(name).kind in ("embeddings", "head") and source.shape[1:] == ours[1:]
            if source.shape != ours and not grown:
                raise self._refusal(f"its {name!r} has shape {list(source.shape)}, the base has {list(ours)}")
        if self._tied:
            self._join_tied(changed)
        return changed

    def _read(self) -> tuple[dict[str, TensorSource], dict[str, Roles]]:
        """Return what was trained whole, by the base's names, and module -> role -> matrix."""
        path = self._path
        file = WeightFile(path)
        whole: dict[str, TensorSource] = {}
        modules: dict[str, Roles] = {}
        for key, entry in read_header(path).items():
            if not entry.dtype.is_floating_point:
                raise refused_type(path, key, str(entry.dtype).removeprefix("torch."))
            name = key.removeprefix(_PREFIX)
            match = _ROLES.fullmatch(name)
            if match:
                modules.setdefault(match[1], {})[match[2]] = FileSource(file, entry)
            elif name == key or "lora_" in name:
                raise UsageError(f"{path}: does not understand tensor {key!r}; merge the adapter with peft first")
            else:
                whole[self._named(name.replace(".base_layer.", "."))] = FileSource(file, entry)
        return whole, modules

    def _product(self, module: str, roles: Roles, old: TensorSource) -> TensorSource:
        """Return a module's weight with its low-rank change."""
        embedding = "lora_embedding_A" in roles
        a, b = ("lora_embedding_A", "lora_embedding_B") if embedding else ("lora_A.weight", "lora_B.weight")
        if any(len(roles[role].shape) < 2 if role in roles else True for role in (a, b)):
            raise UsageError(f"{self._path}: {module!r} lacks one of its two matrices; copy or download it again")
        outputs, inputs = _float32(roles[b]).flatten(1), _float32(roles[a]).flatten(1)
        turned = embedding or self._turned(outputs.shape[0], inputs.shape[1], old.shape)
        left, right = (inputs.T, outputs.T) if turned else (outputs, inputs)
        scale = self._scale(module, roles)
        changed = self._fit(module, lambda: LoraSource(old, left, right, scale))
        if "lora_magnitude_vector" not in roles:
            return changed
        if embedding or len(old.shape) != 2:
            raise UsageError(f"{self._path}: DoRA of {module!r}, which is no linear layer; merge it with peft first")
        magnitude = _float32(roles["lora_magnitude_vector"])
        return self._fit(module, lambda: DoraSource(changed, magnitude, columns=turned))

    def _bias(self, module: str, roles: Roles, old: TensorSource) -> TensorSource:
        """Return a module's bias with that of its second matrix: a product of rank one."""
        left, scale = _float32(roles["lora_B.bias"]).view(-1, 1), self._scale(module, roles)
        return self._fit(module, lambda: LoraSource(old, left, torch.ones(1, 1), scale))

    def _turned(self, outputs: int, inputs: int, shape: tuple[int, ...]) -> bool:
        """Say whether a weight is stored as (inputs, outputs); where its shape does not tell, the config does."""
        return self._config.fan_in_fan_out if outputs == inputs else shape == (inputs, outputs)

    def _scale(self, module: str, roles: Roles) -> float:
        rank = (roles.get("lora_A.weight") or roles["lora_embedding_A"]).shape[0]
        scale = self._config.scale(module, rank)
        if scale is None:
            raise UsageError(f"{self._path}: {module!r} has rank {rank}, unlike adapter_config.json; copy it again")
        return scale

    def _fit(self, module: str, make: Callable[[], TensorSource]) -> TensorSource:
        try:
            return make()
        except ValueError as error:
            raise self._refusal(f"{module!r}: {error}") from None

    def _named(self, name: str) -> str:
        """Return the base's name of a tensor: the running model's may begin otherwise than the file's."""
        if name in self._base.names or (self._tied and place(name).kind == "head"):
            return name
        alike = [ours for ours in self._base.names if _end(ours) == _end(name) and place(ours) == place(name)]
        if len(alike) != 1:
            raise self._refusal(f"changes {name!r}, which the base does not have")
        return alike[0]

    def _stored(self, name: str) -> TensorSource:
        """Return the base's tensor; a head that it does not store is its embeddings."""
        return self._base.source(name if name in self._base.names else self._embeddings or name)

    def _join_tied(self, changed: dict[str, TensorSource]) -> None:
        """Leave out the head if the base ties it to its embeddings; `UsageError` if the adapter trained them apart."""
        heads = [changed.pop(name) for name in list(changed) if place(name).kind == "head"]
        embeddings = changed.get(self._embeddings or "")
        together = all(embeddings and same_elements(embeddings, head) for head in heads)
        if not together or (embeddings and not heads):
            raise UsageError(
                f"{self._path}: trains the embeddings and the output head apart, which this base ties together; "
                "merge it with peft into a base with an untied head, and take that base for all experts"
            )

    def _refusal(self, what: str) -> UsageError:
        return UsageError(f"{self._path}: {what}; it was trained on another base, or is to be merged with peft first")


def _end(name: str) -> str:
    """The part of a name that does not depend on what the model is wrapped in: from the layer on, else two words."""
    match = _IN_LAYER.search(name)
    return match[0] if match else ".".join(name.split(".")[-2:])


def _float32(source: TensorSource) -> torch.Tensor:
    return read_all(source).float()
