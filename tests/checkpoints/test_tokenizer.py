import json
from pathlib import Path
from typing import Any

import pytest

from evomerge.checkpoints.tokenizer import tokenizer_difference


def _bpe(**changes: Any) -> dict[str, Any]:
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}
    added = [{"id": 3, "content": "<eos>", "special": True}]
    return {"model": {**model, **changes.pop("model", {})}, "added_tokens": added, "padding": None, **changes}


def _difference(tmp_path: Path, a: dict[str, Any] | None, b: dict[str, Any] | None) -> str | None:
    for name, tokenizer in (("a", a), ("b", b)):
        (tmp_path / name).mkdir()
        if tokenizer is not None:
            (tmp_path / name / "tokenizer.json").write_text(json.dumps(tokenizer))
    return tokenizer_difference(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize(
    "other",
    [
        _bpe(),
        _bpe(model={"merges": ["a b"]}),
        _bpe(padding={"strategy": "longest"}),
        _bpe(post_processor={"type": "TemplateProcessing"}),
        None,
    ],
    ids=["equal", "older merges", "padding", "post-processor", "no tokenizer"],
)
def test_what_numbers_tokens_the_same_agrees(tmp_path: Path, other: dict[str, Any] | None) -> None:
    assert _difference(tmp_path, _bpe(), other) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (_bpe(model={"vocab": {"a": 1, "b": 0, "ab": 2}}), "token 'a' is number 0 against number 1"),
        (_bpe(model={"vocab": {"a": 0, "b": 1, "ab": 2, "c": 4}}), "token 'c' is missing against number 4"),
        (_bpe(model={"merges": [["b", "a"]]}), "merge rule 0 is 'a b' against 'b a'"),
        (_bpe(model={"merges": []}), "1 merge rules against 0"),
        (_bpe(model={"type": "Unigram"}), "model BPE against Unigram"),
        (_bpe(added_tokens=[{"id": 3, "content": "<pad>"}]), "added token '<eos>' is number 3 against missing"),
    ],
)
def test_the_first_difference_is_named(tmp_path: Path, other: dict[str, Any], message: str) -> None:
    assert _difference(tmp_path, _bpe(), other) == message


@pytest.mark.parametrize(
    "content",
    ["{", "[]", "1", "{}", '{"model": 3}', '{"model": {"vocab": [3]}}', '{"model": {}, "added_tokens": [3]}',
     '{"model": {"merges": [3]}}'],
)  # fmt: skip
def test_what_is_no_tokenizer_is_named(tmp_path: Path, content: str) -> None:
    for name, text in (("a", json.dumps(_bpe())), ("b", content)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(text)
    with pytest.raises(ValueError, match="b/tokenizer.json: not (valid JSON|a tokenizer file)"):
        tokenizer_difference(tmp_path / "a", tmp_path / "b")


def test_without_tokenizer_json_the_model_file_counts(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"two")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.model").write_bytes(content)
    assert tokenizer_difference(tmp_path / "a", tmp_path / "b") == "tokenizer.model differs"
