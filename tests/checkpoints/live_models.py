"""Tiny models of several architectures, some of which transformers runs in another form than it stores them."""

from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 32,
}  # fmt: skip
EXPERTS = {**SIZES, "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 8, "patch_size": 4, "model_type": "clip_vision_model"}  # fmt: skip
MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (AutoModelForCausalLM, SIZES),
    "gpt2": (AutoModelForCausalLM, {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32}),
    "mamba": (AutoModelForCausalLM, {**SIZES, "state_size": 4}),
    "mixtral": (AutoModelForCausalLM, EXPERTS),
    "qwen2_moe": (AutoModelForCausalLM, {**EXPERTS, "shared_expert_intermediate_size": 8}),
    "qwen3_moe": (AutoModelForCausalLM, EXPERTS),
    "granitemoe": (AutoModelForCausalLM, EXPERTS),
    "llava": (
        AutoModelForImageTextToText,
        {"text_config": {**SIZES, "model_type": "llama"}, "vision_config": TOWER},
    ),
    "qwen2_vl": (
        AutoModelForImageTextToText,
        {"text_config": SIZES, "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2}},
    ),
}
