"""What can be said about one model from its headers and small files, without reading a weight.

Nothing is refused here: what cannot be read is a fact too. This file knows nothing about how models relate to each
other.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evomerge.checkpoints.adapter import Adapter
from evomerge.checkpoints.checkpoint import ADAPTER_CONFIG, Checkpoint, is_adapter
from evomerge.checkpoints.model import Model
from evomerge.doctor.licences import read_card, read_licence
from evomerge.errors import UsageError

# Keys of config.json that say how a file was written or is to be run, not what the model is.
_NOT_THE_MODEL = {
    "_name_or_path",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "auto_map",
    "dtype",
    "torch_dtype",
    "transformers_version",
    "use_cache",
    "unsloth_version",
    "unsloth_fixed",
}
SPECIAL_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
# Token settings and classifier heads in config.json: compared as special tokens, or of no effect on a merge.
_ASIDE = {*SPECIAL_TOKENS, "quantization_config", "id2label", "label2id", "architectures", "vocab_size"}


@dataclass(frozen=True)
class Facts:
    """One model as its small files describe it; made by `read`.

    Attributes:
        label: its name in the report.
        reference: as it was given.
        path: its directory.
        config: config.json, or {} if there is none.
        adapter: adapter_config.json of a LoRA adapter, None for a full model.
        model: the opened model; None if it cannot be opened.
        problem: why it cannot.
    """

    label: str
    reference: str
    path: Path
    config: Mapping[str, Any]
    adapter: Mapping[str, Any] | None
    model: Model | None
    problem: str | None

    @classmethod
    def read(cls, label: str, reference: str, path: Path, base: "Facts | None" = None) -> "Facts":
        """Read a model directory; an adapter is opened on `base`."""
        model: Model | None = None
        problem = None
        adapter = _json(path / ADAPTER_CONFIG) if is_adapter(path) else None
        try:
            if adapter is None or base is None:
                model = Checkpoint.open(path)
            elif isinstance(base.model, Checkpoint):
                model = Adapter.open(path, base.model)
            else:
                problem = f"adapter {path}: cannot be read without its base"
        except UsageError as error:
            problem = str(error)
        return cls(label, reference, path, _json(path / "config.json"), adapter, model, problem)

    @property
    def kind(self) -> str:
        """What it is, in a word or two."""
        if self.adapter is None:
            return "model"
        return f"{self.adapter.get('peft_type', 'adapter')} r={self.adapter.get('r', '?')}"

    @property
    def architecture(self) -> str | None:
        """The class that transformers builds of it, as config.json names it."""
        named = self.config.get("architectures")
        return ", ".join(map(str, named)) if isinstance(named, list) else named

    @cached_property
    def settings(self) -> dict[str, Any]:
        """What config.json says about the architecture: dotted key -> value, rotary embeddings in one notation."""
        return {
            key: value
            for key, value in _flat(self.config)
            if not set(key.split(".")) & (_NOT_THE_MODEL | _ASIDE) and not _is_default_rope(key, value)
        }

    def setting(self, name: str) -> Any:
        """Return a setting wherever in the config it is (vision-language models nest the language model's)."""
        found = [value for key, value in self.settings.items() if key.rpartition(".")[2] == name]
        return found[0] if found else None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Tensor name -> shape."""
        return {name: self.model.shape(name) for name in self.model.names} if self.model else {}

    @property
    def parameters(self) -> int:
        """The number of weights."""
        return sum(map(math.prod, self.shapes.values()))

    @cached_property
    def dtypes(self) -> dict[str, int]:
        """Dtype -> number of weights in it, largest first."""
        counts: Counter[str] = Counter()
        if self.model:
            for name, shape in self.shapes.items():
                counts[str(self.model.dtype(name)).removeprefix("torch.")] += math.prod(shape)
        return dict(counts.most_common())

    @cached_property
    def bytes(self) -> int:
        """The bytes of its weight files."""
        if self.model is None:
            return 0
        return sum((self.path / name).stat().st_size for name in self.model.files)

    @property
    def quantisation(self) -> str | None:
        """The quantisation that its config declares."""
        declared = self.config.get("quantization_config")
        if not declared:
            return None
        return str(declared.get("quant_method", "unknown")) if isinstance(declared, dict) else "unknown"

    @cached_property
    def card(self) -> Mapping[str, Any]:
        """The YAML head of its model card."""
        return read_card(self.path)

    @cached_property
    def licence(self) -> str | None:
        """The licence that it names."""
        return read_licence(self.path, self.card)

    @cached_property
    def parents(self) -> tuple[str, ...]:
        """The base models that its adapter_config.json or card names."""
        named = (self.adapter or {}).get("base_model_name_or_path") or self.card.get("base_model") or ()
        names = named if isinstance(named, list) else [named]
        return tuple(name for name in names if isinstance(name, str))

    @cached_property
    def chat_template(self) -> str | None:
        """Its chat template: the text of the file of its own, or what tokenizer_config.json says."""
        file = self.path / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace")
        template = _json(self.path / "chat_template.json").get("chat_template")
        template = template or self._tokenizer_config.get("chat_template")
        return template if template is None or isinstance(template, str) else json.dumps(template, sort_keys=True)

    @cached_property
    def special_tokens(self) -> dict[str, Any]:
        """Special tokens by number, as generation uses them: generation_config.json before config.json."""
        generation = _json(self.path / "generation_config.json")
        nested = self.config.get("text_config")
        sources = (generation, self.config, nested if isinstance(nested, dict) else {})
        found = {name: next((s[name] for s in sources if s.get(name) is not None), None) for name in SPECIAL_TOKENS}
        return {name: [value] if isinstance(value, int) else value for name, value in found.items()}

    @property
    def _tokenizer_config(self) -> dict[str, Any]:
        return _json(self.path / "tokenizer_config.json")

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "label": self.label,
            "reference": self.reference,
            "path": str(self.path),
            "kind": self.kind,
            "problem": self.problem,
            "architecture": self.architecture,
            "model_type": self.config.get("model_type"),
            "settings": self.settings,
            "tensors": len(self.shapes),
            "parameters": self.parameters,
            "bytes": self.bytes,
            "dtypes": self.dtypes,
            "quantisation": self.quantisation,
            "licence": self.licence,
            "parents": list(self.parents),
            "chat_template": self.chat_template,
            "special_tokens": self.special_tokens,
        }


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Return dotted key -> leaf pairs; transformers 4's and 5's ways to write rotary embeddings become one."""
    pairs: list[tuple[str, Any]] = []
    for key, value in config.items():
        if key in ("rope_parameters", "rope_scaling"):
            key = "rope"
        elif key in ("rope_theta", "partial_rotary_factor") and not prefix.endswith("rope."):
            key = f"rope.{key}"
        elif key == "type" and prefix.endswith("rope."):
            key = "rope_type"
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        elif value is not None:  # null says no more than silence
            pairs.append((f"{prefix}{key}", value))
    return pairs


def _is_default_rope(key: str, value: Any) -> bool:
    return key.endswith("rope.rope_type") and value == "default"
