"""Tensor names of a model, with the traps of matching by parts of names."""

from evomerge.recipes import Layout

LAYERS = 12
_INSIDE = (
    "self_attn.q_proj.weight",
    "self_attn.o_proj.weight",
    "mlp.gate_proj.weight",
    "mlp.experts.1.up_proj.weight",
    "input_layernorm.weight",
    "norm.weight",
)

# `norm.weight` and `layers.1.` are parts of other names
LAYOUT = Layout.of(
    [
        "embed_tokens.weight",
        "norm.weight",
        "lm_head.weight",
        *(f"layers.{layer}.{name}" for layer in range(LAYERS) for name in _INSIDE),
    ]
)
