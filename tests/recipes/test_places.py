"""The place of every tensor of real architectures, as transformers builds them from tiny configs."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoModelForSeq2SeqLM

from evomerge.recipes.groups import Layout, place

SIZES = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 32,
}  # fmt: skip
EXPERTS = {**SIZES, "num_experts": 2, "num_local_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 8}
GPT = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 32, "rotary_dim": 4}
TOWER = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "image_size": 8, "patch_size": 4}  # fmt: skip
LLAMA = {**SIZES, "model_type": "llama"}

# What lies directly below a layer -> its part; norms are `rest` everywhere.
USUAL = {"self_attn": "attention", "mlp": "mlp"}
Case = tuple[dict[str, Any], dict[str, str]]
CAUSAL: dict[str, Case] = {
    "llama": (SIZES, USUAL),
    "gemma2": (SIZES, USUAL),
    "gemma3_text": (SIZES, USUAL),
    "cohere": (SIZES, USUAL),
    "olmo2": (SIZES, USUAL),
    "phi": (SIZES, USUAL),
    "phi3": ({**SIZES, "pad_token_id": 0}, USUAL),
    "starcoder2": (SIZES, USUAL),
    "bitnet": (SIZES, USUAL),
    "gpt2": (GPT, {"attn": "attention", "mlp": "mlp"}),
    "gptj": (GPT, {"attn": "attention", "mlp": "mlp"}),
    "gpt_neox": (SIZES, {"attention": "attention", "mlp": "mlp"}),
    "opt": ({**SIZES, "ffn_dim": 24, "word_embed_proj_dim": 8}, {"self_attn": "attention", "fc1": "mlp", "fc2": "mlp"}),
    "biogpt": (SIZES, {"self_attn": "attention", "fc1": "mlp", "fc2": "mlp"}),
    "bloom": (GPT | {"hidden_size": 16}, {"self_attention": "attention", "mlp": "mlp"}),
    "falcon": ({k: v for k, v in SIZES.items() if k != "head_dim"}, {"self_attention": "attention", "mlp": "mlp"}),
    "mpt": (
        {"d_model": 16, "n_layers": 2, "n_heads": 2, "vocab_size": 32, "expansion_ratio": 1},
        {"attn": "attention", "ffn": "mlp"},
    ),
    "mixtral": (EXPERTS, USUAL),
    "qwen2_moe": ({**EXPERTS, "shared_expert_intermediate_size": 8}, USUAL),
    "qwen3_moe": (EXPERTS, USUAL),
    "gpt_oss": (EXPERTS, USUAL),
    "granitemoe": (EXPERTS, {"self_attn": "attention", "block_sparse_moe": "mlp"}),
    "llama4_text": ({**EXPERTS, "intermediate_size_mlp": 8}, {"self_attn": "attention", "feed_forward": "mlp"}),
    "deepseek_v3": (
        {
            **EXPERTS, "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "first_k_dense_replace": 1,
            "q_lora_rank": 4, "kv_lora_rank": 4, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
        },
        USUAL,
    ),
    "mamba": ({**SIZES, "state_size": 4}, {"mixer": "attention"}),
    "mamba2": ({**SIZES, "state_size": 4, "num_heads": 4, "n_groups": 1}, {"mixer": "attention"}),
    "falcon_mamba": ({**SIZES, "state_size": 4}, {"mixer": "attention"}),
    "jamba": (
        {
            **EXPERTS, "attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1,
            "expert_layer_period": 2, "use_mamba_kernels": False, "mamba_dt_rank": 4,
        },
        {"mamba": "attention", "self_attn": "attention", "feed_forward": "mlp"},
    ),
    "qwen3_next": (
        {
            **EXPERTS, "shared_expert_intermediate_size": 8, "linear_num_value_heads": 2, "linear_num_key_heads": 2,
            "linear_key_head_dim": 4, "linear_value_head_dim": 4, "layer_types": ["linear_attention", "full_attention"],
        },
        {**USUAL, "linear_attn": "attention"},
    ),
    "rwkv": (
        {**SIZES, "attention_hidden_size": 16},
        {"attention": "attention", "feed_forward": "mlp", "ln1": "rest", "ln2": "rest", "pre_ln": "rest"},
    ),
    "recurrent_gemma": ({**SIZES, "lru_width": 16}, {"temporal_block": "attention", "mlp_block": "mlp"}),
    "lfm2": (
        {**SIZES, "layer_types": ["conv", "full_attention"]},
        {"conv": "attention", "self_attn": "attention", "feed_forward": "mlp"},
    ),
}  # fmt: skip


def _build(kind: Any, name: str, settings: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return kind.from_config(AutoConfig.for_model(name, **settings))


def _name_of(model: Any, module: Any) -> str | None:
    if module is None:
        return None
    names = (name for name, tensor in model.state_dict(keep_vars=True).items() if tensor is module.weight)
    return next(names, None)


@pytest.mark.parametrize("architecture", CAUSAL)
def test_language_models(architecture: str) -> None:
    settings, children = CAUSAL[architecture]
    model = _build(AutoModelForCausalLM, architecture, settings)
    names = list(model.state_dict())
    assert Layout.of(names).layers == 2
    head, embeddings = (_name_of(model, m) for m in (model.get_output_embeddings(), model.get_input_embeddings()))
    seen = set()
    for name in names:
        where = place(name)
        inside = re.fullmatch(r"(?:.+\.)?(?:layers|h|blocks)\.([01])\.([^.]+)(?:\..+)?", name)
        if inside:
            child = inside[2]
            part = children.get(child) or ("rest" if "norm" in child or child.startswith("ln_") else None)
            assert (where.kind, where.layer, where.part) == ("layers", int(inside[1]), part), name
            seen.add(child)
        else:
            assert where.layer is None
            is_norm = re.search(r"norm|\bln_", name) is not None
            assert (where.kind == "norms") == is_norm, name
    assert seen >= children.keys()
    assert place(embeddings).kind == "embeddings"
    assert head is None or place(head).kind == ("head" if head != embeddings else "embeddings")


# Prefix -> kind; the longest that fits a name decides.
VISION: dict[str, Case] = {
    "qwen2_vl": (
        {"text_config": SIZES, "vision_config": {"depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2}},
        {"model.visual.": "encoder", "model.visual.merger.": "projector"},
    ),
    "llava": (
        {"text_config": LLAMA, "vision_config": {**TOWER, "model_type": "clip_vision_model"}},
        {"model.vision_tower.": "encoder", "model.multi_modal_projector.": "projector"},
    ),
    "gemma3": (
        {"text_config": SIZES, "vision_config": {**TOWER, "model_type": "siglip_vision_model"}},
        {"model.vision_tower.": "encoder", "model.multi_modal_projector.": "projector"},
    ),
    "idefics3": (
        {"text_config": LLAMA, "vision_config": TOWER},
        {"model.vision_model.": "encoder", "model.connector.": "projector"},
    ),
    "paligemma": (
        {
            "text_config": {**SIZES, "model_type": "gemma"}, "projection_dim": 16,
            "vision_config": {**TOWER, "model_type": "siglip_vision_model"},
        },
        {"model.vision_tower.": "encoder", "model.multi_modal_projector.": "projector"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("architecture", VISION)
def test_vision_towers_are_no_layers(architecture: str) -> None:
    settings, prefixes = VISION[architecture]
    names = list(_build(AutoModelForImageTextToText, architecture, settings).state_dict())
    assert Layout.of(names).layers == 2
    for name in names:
        fitting = [prefix for prefix in prefixes if name.startswith(prefix)]
        where = place(name)
        if fitting:
            assert where.kind == prefixes[max(fitting, key=len)], name
        else:
            kinds = {"embed_tokens": "embeddings", "lm_head": "head", "norm": "norms"}
            expected = "layers" if ".layers." in name else kinds[name.split(".")[-2]]
            assert where.kind == expected, name
            part = "attention" if "self_attn" in name else "mlp" if ".mlp." in name else "rest"
            assert where.part == (part if ".layers." in name else None), name


T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 2, "num_heads": 2, "vocab_size": 32}
BART = {"d_model": 16, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "vocab_size": 32,
        "decoder_attention_heads": 2, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}  # fmt: skip


@pytest.mark.parametrize(("architecture", "settings"), [("t5", T5), ("bart", BART)])
def test_the_layers_of_an_encoder_decoder_are_the_decoders(architecture: str, settings: dict[str, Any]) -> None:
    names = list(_build(AutoModelForSeq2SeqLM, architecture, settings).state_dict())
    for name in names:
        where = place(name)
        if "embed_tokens" in name or "shared" in name:
            assert where.kind == "embeddings"
        elif re.search(r"(?:^|\.)encoder\.", name):
            assert where.kind == "encoder"
        elif re.search(r"(?:block|layers)\.[01]\.", name):
            assert where.kind == "layers"
            attends = re.search(r"Attention\.|_attn\.", name) is not None
            feeds = re.search(r"DenseReluDense\.|\.fc[12]\.", name) is not None
            assert where.part == ("attention" if attends else "mlp" if feeds else "rest"), name
    assert Layout.of(names).layers == 2


@pytest.mark.parametrize(
    ("kind", "architecture", "settings"),
    [
        (AutoModelForCausalLM, "mixtral", EXPERTS),
        (AutoModelForCausalLM, "qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 8}),
        (AutoModelForCausalLM, "gpt_neox", SIZES),
        (AutoModelForImageTextToText, "qwen2_vl", VISION["qwen2_vl"][0]),
        (AutoModelForImageTextToText, "llava", VISION["llava"][0]),
    ],
)
def test_files_and_running_models_put_a_tensor_in_the_same_place(
    tmp_path: Path, kind: Any, architecture: str, settings: dict[str, Any]
) -> None:
    """transformers writes other names than it runs with; the number of elements at each place must agree."""
    model = kind.from_config(AutoConfig.for_model(architecture, **settings))
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    running = model.state_dict(keep_vars=True)
    assert stored.keys() != running.keys() or architecture == "gpt_neox"

    def sizes(tensors: dict[str, torch.Tensor]) -> dict[Any, int]:
        totals: dict[Any, int] = {}
        for name, tensor in tensors.items():
            totals[place(name)] = totals.get(place(name), 0) + tensor.numel()
        return totals

    assert sizes(stored) == sizes(running)


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ("model.layers.3.block_sparse_moe.gate.weight", ("layers", "mlp")),
        ("model.layers.3.mlp.experts.7.down_proj.weight", ("layers", "mlp")),
        ("model.layers.3.mlp.shared_expert_gate.weight", ("layers", "mlp")),
        ("model.layers.3.mixer.up_proj.weight", ("layers", "mlp")),
        ("model.layers.3.mixer.experts.0.up_proj.weight", ("layers", "mlp")),
        ("model.layers.3.mixer.q_proj.weight", ("layers", "attention")),
        ("model.layers.3.cross_attn.q_proj.weight", ("layers", "attention")),
        ("model.layers.3.cross_attn_mlp_gate", ("layers", "mlp")),
        ("layers.3.attention.wqkv.weight", ("layers", "attention")),
        ("layers.3.attention_norm.weight", ("layers", "rest")),
        ("layers.3.feed_forward.w2.weight", ("layers", "mlp")),
        ("language_model.model.layers.3.mlp.up_proj.weight", ("layers", "mlp")),
        ("vision_tower.vision_model.encoder.layers.3.mlp.fc1.weight", ("encoder", None)),
        ("audio_tower.layers.3.fc1.weight", ("encoder", None)),
        ("visual.blocks.3.attn.qkv.weight", ("encoder", None)),
        ("visual.merger.mlp.0.weight", ("projector", None)),
        ("vision_projector.weight", ("projector", None)),
        ("mtp.layers.3.self_attn.q_proj.weight", ("other", None)),
        ("talker.model.layers.3.self_attn.q_proj.weight", ("other", None)),
        ("model.tok_embeddings.weight", ("embeddings", None)),
        ("output.weight", ("head", None)),
    ],
)
def test_names_seen_in_files(tensor: str, expected: tuple[str, str | None]) -> None:
    where = place(tensor)
    assert (where.kind, where.part) == expected
    assert where.layer == (3 if expected[0] == "layers" else None)
