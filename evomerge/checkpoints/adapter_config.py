"""What adapter_config.json says about an adapter's arithmetic, and which adapters are no change of weights.

The names are those of peft's LoraConfig. This file knows nothing about tensors.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evomerge.errors import UsageError

# Settings with which an adapter is more, or other, than W + scale * B A.
_REFUSED = {
    "target_parameters": "it changes fused parameters (target_parameters); merge it into its base with peft first",
    "trainable_token_indices": "it trains single rows (trainable_token_indices); merge it with peft first",
    "alora_invocation_tokens": "it acts on some tokens of a text only (aLoRA), so that no weights equal it",
    "arrow_config": "it routes between adapters (arrow), so that no weights equal it",
    "layer_replication": "it repeats layers (layer_replication), so that it fits no other expert",
    "use_qalora": "it belongs to a quantised base (QA-LoRA)",
    "use_bdlora": "it is block-diagonal (BD-LoRA); merge it into its base with peft first",
    "kasa_config": "it changes the base's own weights (KaSA); merge it into its base with peft first",
    "monteclora_config": "it is sampled (MonteCLoRA); merge it into its base with peft first",
}
# Initialisations that subtract the adapter's start from the base, so that it fits the changed base only.
_CHANGED_BASE = ("pissa", "olora", "corda", "lora_ga", "loftq")


@dataclass(frozen=True)
class AdapterConfig:
    """The part of adapter_config.json that decides the arithmetic; made by `parse`."""

    rank: int
    alpha: float
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    fan_in_fan_out: bool

    @classmethod
    def parse(cls, config: Mapping[str, Any], path: Path) -> "AdapterConfig":
        """Take it out of a parsed adapter_config.json; `UsageError` naming the directory if it cannot be merged."""
        kind = config.get("peft_type")
        if kind != "LORA":
            raise UsageError(f"adapter {path}: is of type {kind}; only LoRA adapters can be merged")
        for key, reason in _REFUSED.items():
            if config.get(key):
                raise UsageError(f"adapter {path}: {reason}")
        start = config.get("init_lora_weights")
        if isinstance(start, str) and start.lower().startswith(_CHANGED_BASE):
            raise UsageError(
                f"adapter {path}: its start ({start}) was taken out of the base, which thereby became another; "
                "convert it (peft's path_initial_model_for_weight_conversion), or merge it there first"
            )
        parsed = cls(
            rank=config.get("r", 8),
            alpha=config.get("lora_alpha", 8),
            rank_pattern=config.get("rank_pattern") or {},
            alpha_pattern=config.get("alpha_pattern") or {},
            rslora=bool(config.get("use_rslora")),
            fan_in_fan_out=bool(config.get("fan_in_fan_out")),
        )
        numbers = (parsed.alpha, *_values(parsed.alpha_pattern, path), parsed.rank, *_values(parsed.rank_pattern, path))
        if not all(type(n) in (int, float) and math.isfinite(n) for n in numbers):
            raise UsageError(f"adapter {path}: r, lora_alpha, rank_pattern and alpha_pattern must hold numbers")
        return parsed

    def scale(self, module: str, rank: int) -> float | None:
        """Return the factor of a module's product; None if `rank` is not the rank that the config gives the module."""
        if rank < 1 or _at(self.rank_pattern, module, self.rank) != rank:
            return None
        alpha: float = _at(self.alpha_pattern, module, self.alpha)
        return alpha / (math.sqrt(rank) if self.rslora else rank)


def _values(pattern: Any, path: Path) -> list[Any]:
    if not isinstance(pattern, dict):
        raise UsageError(f"adapter {path}: rank_pattern and alpha_pattern must map module names to numbers")
    for key in pattern:
        try:
            _expression(key)
        except re.error:
            raise UsageError(f"adapter {path}: {key!r} in its patterns is no regular expression") from None
    return list(pattern.values())


def _at(pattern: Mapping[str, Any], module: str, default: Any) -> Any:
    """Return the value of the first key that is the end of a module's name (as peft reads it: a regular expression)."""
    return next((value for key, value in pattern.items() if _expression(key).match(module)), default)


def _expression(key: str) -> re.Pattern[str]:
    return re.compile(rf"(.*\.)?({key})$")
