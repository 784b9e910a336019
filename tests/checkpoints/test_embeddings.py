"""Models that number added tokens differently, written by transformers, merged row by row."""

import json
from pathlib import Path

import pytest
import torch
from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.errors import UsageError
from tests.checkpoints.adapters import write_adapter
from tests.checkpoints.models import VOCABULARY, config, copy_of, edit_json, tokenizer

MATRICES = ("model.embed_tokens.weight", "lm_head.weight")


def write_model(
    path: Path, added: list[str], *, rows: int | None = None, seed: int = 1, dtype: torch.dtype = torch.float32
) -> Path:
    """A model whose tokenizer has added tokens; `rows`: the height of its embeddings, padding included."""
    words = tokenizer()
    words.add_tokens([AddedToken(token, special=True, normalized=False) for token in added])
    words.save_pretrained(path)
    settings = config().to_dict() | {"vocab_size": rows or VOCABULARY + len(added)}
    model = LlamaForCausalLM(LlamaConfig(**settings))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    model.to(dtype).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("vocabularies")
    return {
        "base": write_model(root / "base", ["<pad>", "<im>"], rows=99, dtype=torch.bfloat16),
        "chat": write_model(root / "chat", ["<im>", "<tool>"], seed=2, dtype=torch.bfloat16),
        "code": write_model(root / "code", ["<pad>", "<fim>", "<tool>"], rows=104, seed=3),
    }


def _open(models: dict[str, Path], vocabulary: str) -> ModelPool:
    experts = {label: str(path) for label, path in models.items() if label != "base"}
    return ModelPool.open(str(models["base"]), experts, vocabulary=vocabulary)


def _numbers(path: Path) -> dict[str, int]:
    numbers: dict[str, int] = AutoTokenizer.from_pretrained(path).get_vocab()
    return numbers


def _row(pool: ModelPool, label: str, name: str, token: str) -> torch.Tensor:
    model = pool.experts[label] if label else pool.base
    return model.tensor(name)[_numbers(model.path)[token]].float()


def test_the_same_vocabulary_is_asked_for_by_default(models: dict[str, Path]) -> None:
    with pytest.raises(UsageError, match="choose vocabulary base, union or intersection"):
        _open(models, "same")
    with pytest.raises(UsageError, match="did you mean 'union'"):
        _open(models, "onion")


def test_the_bases_vocabulary(models: dict[str, Path], tmp_path: Path) -> None:
    pool = _open(models, "base")
    assert pool.config["vocab_size"] == 99
    for name in MATRICES:
        assert pool.shape(name) == (99, 32)
        assert torch.equal(pool.tensor("", name), pool.base.tensor(name))
        for label in pool.experts:
            merged = pool.tensor(label, name)
            for token, row in _numbers(models["base"]).items():
                has = token in _numbers(models[label])
                assert torch.equal(merged[row].float(), _row(pool, label if has else "", name, token)), (label, token)
            ours = pool.base.tensor(name)[98].float()  # chat has no such row, code's is a token's
            assert torch.equal(merged[98].float(), ours)
    assert pool.source("chat", MATRICES[0]).dtype == torch.bfloat16
    assert pool.source("code", MATRICES[0]).dtype == torch.float32
    assert torch.equal(pool.tensor("chat", "model.norm.weight"), pool.experts["chat"].tensor("model.norm.weight"))
    report = pool.vocabulary_report
    assert report is not None
    assert report.experts["chat"].moved == ("<im>",)
    assert report.experts["chat"].filled == ("<pad>",)
    assert report.experts["chat"].dropped == ("<tool>",)
    pool.save_tokenizer(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == (models["base"] / "tokenizer.json").read_bytes()


def test_the_union_of_vocabularies(models: dict[str, Path], tmp_path: Path) -> None:
    pool = _open(models, "union")
    report = pool.vocabulary_report
    assert report is not None
    assert report.appended == {"<tool>": 98, "<fim>": 99}  # one row of padding, one new
    assert pool.config["vocab_size"] == 100
    for name in MATRICES:
        assert pool.shape(name) == (100, 32)
        base = pool.tensor("", name)
        assert torch.equal(base[:98].float(), pool.base.tensor(name)[:98].float())
        mean = (_row(pool, "chat", name, "<tool>") + _row(pool, "code", name, "<tool>")) / 2
        assert torch.equal(base[98], mean)
        assert torch.equal(base[99], _row(pool, "code", name, "<fim>"))
        assert torch.equal(pool.tensor("chat", name)[98], _row(pool, "chat", name, "<tool>"))
        assert torch.equal(pool.tensor("chat", name)[99], base[99])
    pool.save_tokenizer(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.get_vocab() == {**_numbers(models["base"]), "<tool>": 98, "<fim>": 99}
    assert saved("w1 <tool> <fim> <im>").input_ids == [1, 98, 99, 97]
    assert saved.decode([98, 1], skip_special_tokens=True) == "w1"
    model = LlamaForCausalLM(LlamaConfig(**pool.config))
    assert model.get_input_embeddings().weight.shape == pool.shape(MATRICES[0])


def test_the_intersection_of_vocabularies(models: dict[str, Path], tmp_path: Path) -> None:
    pool = _open(models, "intersection")
    report = pool.vocabulary_report
    assert report is not None
    assert report.removed == {"<im>": 97, "<pad>": 96}
    assert pool.config["vocab_size"] == 99
    for name in MATRICES:
        for label in pool.experts:
            assert torch.equal(pool.tensor(label, name)[96:98].float(), pool.base.tensor(name)[96:98].float())
    pool.save_tokenizer(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved.get_vocab() == {t: n for t, n in _numbers(models["base"]).items() if t not in report.removed}
    assert set(saved("<im>").input_ids) == {saved.unk_token_id}


def test_a_gap_is_held_by_a_token_that_no_text_contains(models: dict[str, Path], tmp_path: Path) -> None:
    pool = _open({"base": models["base"], "chat": models["chat"]}, "intersection")
    assert pool.vocabulary_report
    assert pool.vocabulary_report.removed == {"<pad>": 96}
    pool.save_tokenizer(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved("<im> <pad>").input_ids == [97, *[saved.unk_token_id] * len(saved.tokenize("<pad>"))]
    assert saved.decode([96, 1], skip_special_tokens=True) == "w1"


def test_tokens_that_settings_name_are_kept(models: dict[str, Path], tmp_path: Path) -> None:
    base = copy_of(models["base"], tmp_path / "base")
    edit_json(base / "tokenizer_config.json", pad_token="<pad>")
    assert _open({**models, "base": base}, "intersection").vocabulary_report.removed == {"<im>": 97}
    edit_json(base / "generation_config.json", eos_token_id=[95, 97])
    assert not _open({**models, "base": base}, "intersection").vocabulary_report.removed


@pytest.mark.parametrize("vocabulary", ["base", "union", "intersection"])
def test_models_that_agree_are_left_as_they_are(family: dict[str, Path], tmp_path: Path, vocabulary: str) -> None:
    pool = _open({"base": family["base"], "math": family["math"]}, vocabulary)
    for name in pool.layout.tensors:
        assert torch.equal(pool.tensor("math", name), pool.experts["math"].tensor(name))
        assert pool.tensor("math", name).dtype == torch.bfloat16
    assert pool.config == pool.base.config
    pool.save_tokenizer(tmp_path, "math")
    assert (tmp_path / "tokenizer.json").read_bytes() == (family["math"] / "tokenizer.json").read_bytes()


def test_an_experts_tokenizer_is_taken_only_if_it_numbers_alike(models: dict[str, Path], tmp_path: Path) -> None:
    pool = _open(models, "base")
    with pytest.raises(UsageError, match="tokenizer of 'chat': numbers tokens otherwise"):
        pool.save_tokenizer(tmp_path, "chat")
    assert not list(tmp_path.iterdir())


def test_another_core_vocabulary_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(models["chat"], tmp_path / "chat")
    tokenizer(renamed=("w3", "new")).save_pretrained(path)
    with pytest.raises(UsageError, match="expert 'chat': the core of its tokenizer differs.*'new'.*only added tokens"):
        _open({**models, "chat": path}, "union")


def test_an_expert_without_a_tokenizer_has_the_bases(models: dict[str, Path], tmp_path: Path) -> None:
    code = copy_of(models["code"], tmp_path / "code")
    (code / "tokenizer.json").unlink()
    pool = _open({"base": models["base"], "code": code}, "union")
    assert pool.vocabulary_report
    assert pool.vocabulary_report.experts["code"].matched == 98
    assert torch.equal(pool.tensor("code", MATRICES[0]), pool.experts["code"].tensor(MATRICES[0])[:99])
    pool.save_tokenizer(tmp_path, "code")
    assert (tmp_path / "tokenizer.json").read_bytes() == (models["base"] / "tokenizer.json").read_bytes()


def _no_tokenizer(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def _other_size(path: Path) -> None:
    edit_json(path / "config.json", vocab_size=50)


def _bad_number(path: Path) -> None:
    data = json.loads((path / "tokenizer.json").read_text())
    data["added_tokens"][-1]["id"] = "x"
    (path / "tokenizer.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_tokenizer, "has no tokenizer.json"),
        (_other_size, "no embeddings have 50 rows"),
        (_bad_number, "base: cannot read its tokenizer: .*has number 'x'"),
    ],
)
def test_a_base_whose_rows_cannot_be_told_is_refused(models: dict[str, Path], tmp_path: Path, spoil, message) -> None:
    base = copy_of(models["base"], tmp_path / "base")
    spoil(base)
    with pytest.raises(UsageError, match=message) as error:
        _open({**models, "base": base}, "union")
    assert "\n" not in str(error.value)


def test_an_adapter_that_grew_the_embeddings(models: dict[str, Path], tmp_path: Path) -> None:
    grown = write_model(tmp_path / "grown", ["<pad>", "<im>", "<tool>"], rows=99)
    settings = {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}
    theirs = write_adapter(grown, tmp_path / "adapter", **settings)
    tokens = tokenizer()
    tokens.add_tokens([AddedToken(token, special=True, normalized=False) for token in ("<pad>", "<im>", "<tool>")])
    tokens.save_pretrained(tmp_path / "adapter")
    base = write_model(tmp_path / "base", ["<pad>", "<im>"])
    with pytest.raises(UsageError, match="'<tool>' is missing against number 98"):
        _open({"base": base, "lora": tmp_path / "adapter"}, "same")
    pool = _open({"base": base, "lora": tmp_path / "adapter"}, "union")
    for name in MATRICES:
        assert torch.equal(pool.tensor("lora", name), theirs[name])
        assert torch.equal(pool.tensor("", name)[98], theirs[name][98])
