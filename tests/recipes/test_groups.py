import pytest

from evomerge.errors import UsageError
from evomerge.recipes.groups import Layout, Place, finest_group, group_of, parse_group, place, value_at

LLAMA = [
    "model.embed_tokens.weight",
    "model.norm.weight",
    "lm_head.weight",
    *(
        f"model.layers.{i}.{name}.weight"
        for i in range(5)
        for name in (
            "self_attn.q_proj",
            "self_attn.o_proj",
            "mlp.up_proj",
            "input_layernorm",
            "post_attention_layernorm",
        )
    ),
]


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        ("model.layers.11.self_attn.q_proj.weight", Place("layers", 11, "attention")),
        ("model.layers.0.post_attention_layernorm.weight", Place("layers", 0, "rest")),
        ("model.layers.3.self_attn.q_norm.weight", Place("layers", 3, "attention")),
        ("transformer.h.2.mlp.c_fc.weight", Place("layers", 2, "mlp")),
        ("model.layers.1.block_sparse_moe.experts.0.w1.weight", Place("layers", 1, "mlp")),
        ("model.embed_tokens.weight", Place("embeddings")),
        ("transformer.wte.weight", Place("embeddings")),
        ("lm_head.weight", Place("head")),
        ("model.norm.weight", Place("norms")),
        ("transformer.ln_f.bias", Place("norms")),
        ("vision_projector.weight", Place("projector")),
        ("rotary.scale", Place("other")),
    ],
)
def test_place(tensor, expected):
    assert place(tensor) == expected


@pytest.mark.parametrize("granularity", ["global", "layer", 1, 2, 3, 5, 7])
@pytest.mark.parametrize("split", [False, True])
@pytest.mark.parametrize("own", [(), ("embeddings",), ("embeddings", "norms", "head", "other")])
def test_division_is_a_partition(granularity, split, own):
    layout = Layout.of(LLAMA)
    groups = layout.divide(granularity, split=split, own=own)
    assert len(set(groups)) == len(groups)
    for tensor in LLAMA:
        group_of(tensor, groups)  # raises on overlap or on a hole
    for group in groups:
        assert any(group_of(tensor, groups) == group for tensor in LLAMA), f"{group} is empty"


def test_blocks_end_with_a_shorter_one():
    assert Layout.of(LLAMA).divide(2, own=("embeddings", "norms", "head")) == [
        "embeddings", "layers.0-1", "layers.2-3", "layers.4", "norms", "head",
    ]  # fmt: skip


def test_all_is_the_fallback():
    values = {"all": 1.0, "layers.1": 2.0, "layers.3-4.mlp": 3.0}
    assert value_at(values, "model.layers.1.mlp.up_proj.weight") == 2.0
    assert value_at(values, "model.layers.4.mlp.up_proj.weight") == 3.0
    assert value_at(values, "model.layers.4.self_attn.q_proj.weight") == 1.0
    assert value_at(values, "lm_head.weight") == 1.0


def test_overlap_and_hole_are_refused():
    with pytest.raises(UsageError, match="both hold"):
        group_of("model.layers.1.mlp.up_proj.weight", ["layers.0-1", "layers.1"])
    with pytest.raises(UsageError, match="no group holds tensor 'lm_head.weight'"):
        group_of("lm_head.weight", ["layers"])


@pytest.mark.parametrize("name", ["layer.1", "layers.x", "layers.3-1", "layers.1.mpl", "", "heads"])
def test_bad_group_names(name):
    with pytest.raises(UsageError):
        parse_group(name)


@pytest.mark.parametrize("granularity", [0, -1, "blocks", True, 1.5])
def test_bad_granularity(granularity):
    with pytest.raises(UsageError, match="granularity"):
        Layout.of(LLAMA).divide(granularity)


def test_a_group_of_its_own_must_exist():
    with pytest.raises(UsageError, match="cannot be a group of its own"):
        Layout.of(LLAMA).divide("global", own=("heads",))


def test_the_outline_divides_as_the_whole_does():
    layout = Layout.of(LLAMA)
    assert len(layout.outline.tensors) == len({finest_group(tensor) for tensor in LLAMA}) == 18
    assert layout.outline.layers == layout.layers
    for granularity in ("global", "layer", 2):
        for split in (False, True):
            assert layout.outline.divide(granularity, split=split) == layout.divide(granularity, split=split)
    assert finest_group("model.layers.3.mlp.up_proj.weight") == "layers.3.mlp"
    assert finest_group("model.embed_tokens.weight") == "embeddings"
