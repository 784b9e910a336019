from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.errors import UsageError
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


def test_shards_and_dtypes_may_differ(family: Family, sharded: Family, float32: Family) -> None:
    pool = _open(family, math=sharded["math"], code=float32["code"])
    assert pool.experts["code"].dtype("model.norm.weight") == torch.float32


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
