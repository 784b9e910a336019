import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, GPT2Config, GPT2LMHeadModel, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM

from evomerge.checkpoints import Adapter, Checkpoint, ModelPool
from evomerge.checkpoints.live import live_tensors
from evomerge.errors import UsageError
from tests.checkpoints.adapters import edit_config, shake, unmerged, write_adapter
from tests.checkpoints.live_models import MODELS
from tests.checkpoints.models import config

Family = dict[str, Path]
WEIGHTS = "adapter_model.safetensors"


def _close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return bool((ours.double() - theirs.double()).norm() <= 1e-6 * theirs.double().norm())


def _agrees(base: Path, adapter: Path, theirs: dict[str, torch.Tensor], changed: set[str]) -> None:
    """What peft merges is what we read, and what it leaves alone is the base's own tensor."""
    model = Adapter.open(adapter, Checkpoint.open(base))
    assert {name for name in model.names if not torch.equal(model.tensor(name).float(), _base(base)[name])} == changed
    for name in model.names:
        assert _close(model.tensor(name), theirs[name]), name


def _base(path: Path) -> dict[str, torch.Tensor]:
    return {name: tensor.float() for name, tensor in load_file(path / "model.safetensors").items()}


def _layers(*modules: str) -> set[str]:
    return {f"model.layers.{i}.{module}.weight" for i in range(2) for module in modules}


ATTENTION = ("self_attn.q_proj", "self_attn.v_proj")
KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "plain": ({"target_modules": ["q_proj", "v_proj"]}, _layers(*ATTENTION)),
    "one layer": (
        {"target_modules": ["down_proj"], "layers_to_transform": [1]},
        {"model.layers.1.mlp.down_proj.weight"},
    ),
    "rslora": ({"target_modules": ["q_proj", "v_proj"], "use_rslora": True}, _layers(*ATTENTION)),
    "patterns": (
        {
            "target_modules": ["q_proj", "up_proj", "v_proj"],
            "rank_pattern": {"q_proj": 3, r"layers\.1\..*up_proj": 7},
            "alpha_pattern": {"layers.0.self_attn.v_proj": 20, "q_proj": 1},
        },
        _layers(*ATTENTION, "mlp.up_proj"),
    ),
    "dora": ({"target_modules": ["q_proj", "down_proj"], "use_dora": True}, _layers(ATTENTION[0], "mlp.down_proj")),
    "modules to save": (
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head", "norm"]},
        {*_layers(ATTENTION[0]), "lm_head.weight", "model.norm.weight"},
    ),
    "embeddings and head": (
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"model.embed_tokens.weight", "lm_head.weight"},
    ),
    "gaussian": ({"target_modules": ["q_proj"], "init_lora_weights": "gaussian"}, _layers(ATTENTION[0])),
    "all linear": (
        {"target_modules": "all-linear"},
        _layers(*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("up", "gate", "down"))),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_reads_as_peft_merges_it(family: Family, tmp_path: Path, kind: str) -> None:
    settings, changed = KINDS[kind]
    theirs = write_adapter(family["base"], tmp_path / "adapter", **settings)
    if kind == "modules to save":  # peft takes every module whose name ends so
        changed = changed | _layers("input_layernorm", "post_attention_layernorm")
    _agrees(family["base"], tmp_path / "adapter", theirs, changed)


def _qwen(path: Path) -> Path:
    """A model whose projections have biases."""
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "vocab_size": 40}
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(
        Qwen2Config(**sizes, num_attention_heads=2, num_key_value_heads=2, tie_word_embeddings=False)
    )
    model.save_pretrained(path)
    return path


@pytest.mark.parametrize("settings", [{"bias": "all"}, {"bias": "lora_only"}, {"lora_bias": True}], ids=str)
def test_biases(tmp_path: Path, settings: dict[str, Any]) -> None:
    base = _qwen(tmp_path / "base")
    theirs = write_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], **settings)
    trained = ("q_proj", "k_proj", "v_proj") if settings.get("bias") == "all" else ("q_proj",)
    changed = {f"model.layers.{i}.self_attn.{m}.bias" for i in range(2) for m in trained} | _layers("self_attn.q_proj")
    _agrees(base, tmp_path / "adapter", theirs, changed)


@pytest.mark.parametrize("dora", [False, True])
def test_weights_stored_as_inputs_by_outputs(tmp_path: Path, dora: bool) -> None:
    base = tmp_path / "base"
    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=12)).save_pretrained(base)
    modules = ["c_attn", "attn.c_proj"]
    theirs = write_adapter(base, tmp_path / "adapter", target_modules=modules, fan_in_fan_out=True, use_dora=dora)
    changed = {f"transformer.h.{i}.attn.{module}.weight" for i in range(2) for module in ("c_attn", "c_proj")}
    _agrees(base, tmp_path / "adapter", theirs, changed)


def test_a_file_whose_names_begin_otherwise(tmp_path: Path) -> None:
    # GPT-2's own files leave out the model's prefix.
    base = tmp_path / "base"
    GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=40, n_positions=12)).save_pretrained(base)
    theirs = write_adapter(base, tmp_path / "adapter", target_modules=["c_fc"], fan_in_fan_out=True)
    tensors = load_file(base / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(short, base / "model.safetensors", metadata={"format": "pt"})
    model = Adapter.open(tmp_path / "adapter", Checkpoint.open(base))
    assert model.changed == ("h.0.mlp.c_fc.weight", "h.1.mlp.c_fc.weight")
    assert _close(model.tensor("h.1.mlp.c_fc.weight"), theirs["transformer.h.1.mlp.c_fc.weight"])


@pytest.mark.parametrize(
    "settings",
    [{"target_modules": ["embed_tokens"]}, {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}],
    ids=str,
)
def test_tied_embeddings_trained_together(tied: Family, tmp_path: Path, settings: dict[str, Any]) -> None:
    adapter = tmp_path / "adapter"
    write_adapter(tied["base"], adapter, ensure_weight_tying=True, **settings)
    model = Adapter.open(adapter, Checkpoint.open(tied["base"]))
    assert "lm_head.weight" not in model.names
    assert "model.embed_tokens.weight" in model.changed
    # Not against peft's merge: it adds the change to the shared matrix once for each of its two uses.
    live = LlamaForCausalLM(config(tied=True)).eval()
    live.load_state_dict({name: model.tensor(name) for name in model.names}, strict=False)
    live.tie_weights()
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        assert torch.allclose(live(tokens).logits, unmerged(tied["base"], adapter)(tokens).logits, atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
    ],
    ids=str,
)
def test_tied_embeddings_trained_apart_are_refused(tied: Family, tmp_path: Path, settings: dict[str, Any]) -> None:
    write_adapter(tied["base"], tmp_path / "adapter", **settings)
    with pytest.raises(UsageError, match="trains the embeddings and the output head apart.*untied head"):
        Adapter.open(tmp_path / "adapter", Checkpoint.open(tied["base"]))


def _tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        tensors = load_file(path / WEIGHTS)
        change(tensors)
        save_file(tensors, path / WEIGHTS)

    return spoil


Q0 = "base_model.model.model.layers.0.self_attn.q_proj"


def _renamed(tensors: dict[str, torch.Tensor]) -> None:
    for role in ("lora_A", "lora_B"):
        tensors[f"base_model.model.model.layers.9.self_attn.q_proj.{role}.weight"] = tensors.pop(f"{Q0}.{role}.weight")


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "other kind": (lambda p: edit_config(p, peft_type="LOHA"), "of type LOHA; only LoRA"),
    "pissa": (lambda p: edit_config(p, init_lora_weights="pissa_niter_4"), r"start \(pissa_niter_4\)"),
    "parameters": (lambda p: edit_config(p, target_parameters=["experts.up"]), "fused parameters"),
    "token rows": (lambda p: edit_config(p, trainable_token_indices=[1]), "single rows"),
    "alora": (lambda p: edit_config(p, alora_invocation_tokens=[1, 2]), "some tokens of a text only"),
    "repeated layers": (lambda p: edit_config(p, layer_replication=[[0, 2]]), "repeats layers"),
    "text for a number": (lambda p: edit_config(p, lora_alpha="16"), "must hold numbers"),
    "list for a pattern": (lambda p: edit_config(p, rank_pattern=["q_proj"]), "must map module names"),
    "bad pattern": (lambda p: edit_config(p, alpha_pattern={"(": 2}), "no regular expression"),
    "other rank": (lambda p: edit_config(p, r=8), "has rank 4, unlike adapter_config.json"),
    "flags in a pattern": (lambda p: edit_config(p, alpha_pattern={"(?i)q": 2}), "no regular expression"),
    "rank zero": (
        lambda p: (
            edit_config(p, r=0),
            _tensors(
                lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(0, 32), f"{Q0}.lora_B.weight": torch.ones(32, 0)})
            )(p),
        ),
        "has rank [04], unlike adapter_config.json",
    ),
    "a vector for a matrix": (
        _tensors(lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(32)})),
        "lacks one of its two matrices",
    ),
    "bad config": (lambda p: (p / "adapter_config.json").write_text("{"), "cannot be read as JSON"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), f"has no {WEIGHTS}"),
    "truncated": (lambda p: (p / WEIGHTS).write_bytes((p / WEIGHTS).read_bytes()[:-8]), "truncated"),
    "half a pair": (_tensors(lambda t: t.pop(f"{Q0}.lora_B.weight")), "lacks one of its two matrices"),
    "other layer": (_tensors(_renamed), "changes 'model.layers.9.self_attn.q_proj.weight', which the base does not"),
    "other width": (
        _tensors(lambda t: t.update({f"{Q0}.lora_A.weight": torch.ones(4, 8)})),
        r"q_proj': no product of \[32, 4\] and \[4, 8\] fits \[32, 32\]; it was trained on another base",
    ),
    "other saved shape": (
        _tensors(lambda t: t.update({"base_model.model.model.norm.weight": torch.ones(8)})),
        r"its 'model.norm.weight' has shape \[8\], the base has \[32\]",
    ),
    "unknown role": (_tensors(lambda t: t.update({f"{Q0}.lora_diag": torch.ones(4)})), "does not understand tensor"),
    "integers": (
        _tensors(lambda t: t.update({"base_model.model.x": torch.ones(4, dtype=torch.uint8)})),
        "only F32, F16 and BF16",
    ),
    "dora of embeddings": (
        _tensors(
            lambda t: t.update(
                {
                    "base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 96),
                    "base_model.model.model.embed_tokens.lora_embedding_B": torch.ones(32, 4),
                    "base_model.model.model.embed_tokens.lora_magnitude_vector": torch.ones(32),
                }
            )
        ),
        "DoRA of 'model.embed_tokens', which is no linear layer",
    ),
}


@pytest.fixture(scope="module")
def adapter(family: Family, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("adapter")
    write_adapter(family["base"], path, target_modules=["q_proj"])
    return path


@pytest.mark.parametrize("architecture", ["llava", "qwen2_vl"])
def test_a_running_model_with_other_names_than_its_file(tmp_path: Path, architecture: str) -> None:
    kind, settings = MODELS[architecture]
    torch.manual_seed(0)
    kind.from_config(AutoConfig.for_model(architecture, **settings)).save_pretrained(tmp_path / "base")
    running = kind.from_pretrained(tmp_path / "base", dtype=torch.float32)
    wrapped = peft.get_peft_model(running, peft.LoraConfig(r=2, target_modules=["q_proj", "qkv", "up_proj"]))
    shake(wrapped)
    wrapped.save_pretrained(tmp_path / "adapter")
    model = Adapter.open(tmp_path / "adapter", Checkpoint.open(tmp_path / "base"))
    theirs = live_tensors(wrapped.merge_and_unload())
    assert any("vis" in name for name in model.changed)
    assert any("vis" not in name for name in model.changed)
    assert all(_close(model.tensor(name), theirs[name]) for name in model.names)


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_adapter_is_refused_in_one_line(family: Family, adapter: Path, tmp_path: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    path = shutil.copytree(adapter, tmp_path / "adapter")
    spoil(path)
    with pytest.raises(UsageError, match=message) as error:
        ModelPool.open(str(family["base"]), {"lora": str(path)})
    assert str(path) in str(error.value)
    assert "expert 'lora'" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_is_an_expert_beside_full_models(family: Family, adapter: Path) -> None:
    pool = ModelPool.open(str(family["base"]), {"math": str(family["math"]), "lora": str(adapter)})
    assert pool.layout.tensors == pool.base.names
    for name in pool.layout.tensors:
        changed = "q_proj" in name
        assert pool.source("lora", name).dtype == (torch.float32 if changed else torch.bfloat16)
        assert torch.equal(pool.tensor("lora", name), pool.tensor("", name)) != changed
    assert set(pool.experts["lora"].sha256) == {"adapter_config.json", WEIGHTS}


def test_an_adapter_with_nan_is_refused(family: Family, adapter: Path, tmp_path: Path) -> None:
    path = shutil.copytree(adapter, tmp_path / "adapter")
    _tensors(lambda t: t[f"{Q0}.lora_A.weight"].view(-1)[3:4].fill_(float("nan")))(path)
    with pytest.raises(UsageError, match="expert 'lora' .*q_proj.weight' holds NaN"):
        ModelPool.open(str(family["base"]), {"lora": str(path)})


def test_an_adapter_is_no_base(family: Family, adapter: Path) -> None:
    with pytest.raises(UsageError, match="base: model .* is a LoRA adapter"):
        ModelPool.open(str(adapter), {"math": str(family["math"])})
