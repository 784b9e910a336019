import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, LlamaForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.checkpoints.live import live_tensors
from evomerge.errors import UsageError
from tests.checkpoints.live_models import MODELS
from tests.checkpoints.models import config, copy_of, edit_json, tokenizer

Family = dict[str, Path]


def _open(family: Family, **replaced: Path | str) -> ModelPool:
    experts = {name: str(path) for name, path in {**family, **replaced}.items() if name != "base"}
    return ModelPool.open(str(replaced.get("base", family["base"])), experts)


def _weights(path: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(path / "model.safetensors")
    change(tensors)
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def test_a_family_opens(family: Family) -> None:
    pool = _open(family)
    assert list(pool.experts) == ["code", "math", "prose"]
    assert pool.base.path == family["base"]
    assert pool.layout.tensors == pool.base.names
    assert pool.layout.layers == 2
    assert pool.references[""] == str(family["base"])
    assert pool.config == pool.base.config
    assert pool.vocabulary_report is None
    for label, path in family.items():
        for name, tensor in load_file(path / "model.safetensors").items():
            assert pool.shape(name) == tuple(tensor.shape)
            assert torch.equal(pool.tensor("" if label == "base" else label, name), tensor)


def test_shards_and_dtypes_may_differ(family: Family, sharded: Family, float32: Family) -> None:
    pool = _open(family, math=sharded["math"], code=float32["code"])
    assert pool.experts["code"].dtype("model.norm.weight") == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_an_expert_of_another_dtype_keeps_it(
    family: Family, float32: Family, tmp_path: Path, dtype: torch.dtype
) -> None:
    path = copy_of(float32["code"], tmp_path / "code")
    _weights(path, lambda t: t.update({name: tensor.to(dtype) for name, tensor in t.items()}))
    pool = _open(family, code=path)
    for name, tensor in load_file(float32["code"] / "model.safetensors").items():
        assert pool.source("code", name).dtype == dtype
        assert torch.equal(pool.tensor("code", name), tensor.to(dtype))
        assert pool.source("", name).dtype == torch.bfloat16


def _with_buffers(path: Path) -> Path:
    """What older versions of transformers stored beside the weights."""
    layers = [f"model.layers.{i}.self_attn" for i in range(2)]
    mask = torch.ones(1, 1, 8, 8)
    buffers = {
        f"{layers[0]}.rotary_emb.inv_freq": torch.ones(4),
        f"{layers[0]}.masked_bias": torch.tensor(-1e9),
        f"{layers[0]}.bias": mask,
        f"{layers[1]}.bias": mask.to(torch.uint8),
        f"{layers[1]}.attn_mask": mask.bool(),
        "model.position_ids": torch.arange(8)[None],
        "model.steps": torch.tensor(7),
    }
    _weights(path, lambda t: t.update(buffers))
    return path


def test_buffers_are_no_weights(family: Family, tmp_path: Path) -> None:
    base = _with_buffers(copy_of(family["base"], tmp_path / "base"))
    math = _with_buffers(copy_of(family["math"], tmp_path / "math"))
    assert _open(family, base=base).layout == _open(family, base=base, math=math).layout == _open(family).layout


def _untied(path: Path) -> None:
    _weights(path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    edit_json(path / "config.json", tie_word_embeddings=False)


def test_an_expert_that_ties_the_head_of_an_untied_base(tied: Family, tmp_path: Path) -> None:
    base = copy_of(tied["base"], tmp_path / "base")
    _untied(base)
    pool = ModelPool.open(str(base), {"math": str(tied["math"])})
    embeddings = load_file(tied["math"] / "model.safetensors")["model.embed_tokens.weight"]
    assert "lm_head.weight" in pool.layout.tensors
    assert torch.equal(pool.tensor("math", "lm_head.weight"), embeddings)
    assert torch.equal(pool.source("math", "lm_head.weight").read(3, 50), embeddings.view(-1)[3:50])


def test_an_untied_expert_of_a_tied_base_is_refused(tied: Family, tmp_path: Path) -> None:
    path = copy_of(tied["math"], tmp_path / "math")
    _untied(path)
    with pytest.raises(UsageError, match="expert 'math' .*its output head is its own.*take a base with an untied head"):
        _open(tied, math=path)


def test_a_silent_config_is_tied_if_the_file_holds_a_copy(tied: Family, tmp_path: Path) -> None:
    paths = {name: copy_of(tied[name], tmp_path / name) for name in ("base", "math")}
    for path in paths.values():
        _untied(path)
        data = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps({k: v for k, v in data.items() if k != "tie_word_embeddings"}))
    assert _open(tied, **paths).layout == _open(tied).layout


def test_a_tied_head_is_no_tensor_of_its_own(tied: Family, tmp_path: Path) -> None:
    assert "lm_head.weight" not in _open(tied).layout.tensors
    # Some writers repeat the embeddings as the head.
    repeated = copy_of(tied["math"], tmp_path / "repeated")
    _weights(repeated, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"].clone()}))
    assert _open(tied, math=repeated).layout == _open(tied).layout
    other = copy_of(tied["math"], tmp_path / "other")
    _weights(other, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"] + 1}))
    with pytest.raises(UsageError, match=r"holds another 'lm_head.weight'; set tie_word_embeddings to false"):
        _open(tied, math=other)


def _value(name: str, value: float) -> Callable[[Path], object]:
    return lambda path: _weights(path, lambda tensors: tensors[name].view(-1).__setitem__(-1, value))


def _longer(path: Path) -> None:
    model = LlamaForCausalLM(config())
    model.resize_token_embeddings(100)
    model.to(torch.bfloat16).save_pretrained(path)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "NaN": (_value("model.layers.1.mlp.up_proj.weight", float("nan")), "up_proj.weight' holds NaN or infinity"),
    "inf": (_value("lm_head.weight", float("-inf")), "'lm_head.weight' holds NaN or infinity"),
    "other architecture": (
        lambda p: edit_json(p / "config.json", architectures=["MistralForCausalLM"], model_type="mistral"),
        "model_type is 'mistral', the base has 'llama'",
    ),
    "other heads": (
        lambda p: edit_json(p / "config.json", num_attention_heads=8),
        "num_attention_heads is 8, the base has 4",
    ),
    "tied": (lambda p: edit_json(p / "config.json", tie_word_embeddings=True), "another 'lm_head.weight'|tie_word"),
    "lacks a tensor": (
        lambda p: _weights(p, lambda t: t.pop("model.norm.weight")),
        "has no tensor 'model.norm.weight', the base has",
    ),
    "more tensors": (
        lambda p: _weights(p, lambda t: t.update({"model.layers.0.extra": torch.ones(2)})),
        "has tensor 'model.layers.0.extra', the base has not",
    ),
    "other shape": (_longer, r"has shape \[100, 32\], the base has \[96, 32\]; resize"),
    "other layer shape": (
        lambda p: _weights(p, lambda t: t.update({"model.norm.weight": torch.ones(33)})),
        r"'model.norm.weight' has shape \[33\], the base has \[32\]; only fine-tunes",
    ),
    "other token": (
        lambda p: tokenizer(renamed=("w3", "new")).save_pretrained(p),
        "token 'new' is missing against number 3",
    ),
    "double precision": (
        lambda p: _weights(p, lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.float64)})),
        "has type F64; only F32, F16 and BF16 can be merged .convert the model to float32",
    ),
    "bytes": (
        lambda p: _weights(p, lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.uint8)})),
        "has type U8; only F32.*dequantised first",
    ),
    "bad tokenizer": (lambda p: (p / "tokenizer.json").write_text("{"), "tokenizer.json: not valid JSON"),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_an_expert_that_does_not_fit_is_refused_in_one_line(family: Family, tmp_path: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    path = copy_of(family["math"], tmp_path / "spoilt")
    spoil(path)
    with pytest.raises(UsageError, match=message) as error:
        _open(family, math=path)
    assert "expert 'math'" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_base_with_nan_is_refused_unless_told_otherwise(family: Family, tmp_path: Path) -> None:
    path = copy_of(family["base"], tmp_path / "spoilt")
    _value("model.norm.weight", float("nan"))(path)
    with pytest.raises(UsageError, match="base .*'model.norm.weight' holds NaN"):
        _open(family, base=path)
    ModelPool.open(str(path), {"math": str(family["math"])}, check_weights=False)


def test_a_missing_expert_is_named(family: Family, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expert 'math': .*no such directory"):
        _open(family, math=tmp_path / "nothing")


def test_no_experts_are_refused(family: Family) -> None:
    with pytest.raises(UsageError, match="no experts"):
        ModelPool.open(str(family["base"]), {})


@pytest.mark.parametrize("architecture", MODELS)
def test_real_architectures_fit_the_running_model(tmp_path: Path, architecture: str) -> None:
    kind, settings = MODELS[architecture]
    model = kind.from_config(AutoConfig.for_model(architecture, **settings))
    for name in ("base", "expert"):
        model.save_pretrained(tmp_path / name)
    pool = ModelPool.open(str(tmp_path / "base"), {"expert": str(tmp_path / "expert")})
    live = live_tensors(model)
    for name in pool.layout.tensors:
        assert tuple(live[name].shape) == pool.shape(name)
        assert torch.equal(live[name], pool.tensor("expert", name))
    assert sum(live[name].numel() for name in pool.layout.tensors) == sum(p.numel() for p in model.parameters())
