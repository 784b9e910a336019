import json

import pytest

from evomerge.checkpoints import ModelPool
from evomerge.errors import UsageError
from evomerge.search.plan.shape import Shape, absent_models
from evomerge.zoo import model_path

QWEN = {
    "model_type": "qwen2",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def test_a_config_alone_says_what_the_headers_say():
    pool = ModelPool.open("zoo:base", {"math": "zoo:math", "code": "zoo:code"}, check_weights=False)
    config = json.loads((model_path("base") / "config.json").read_text())
    read, built = Shape.of_pool(pool), Shape.of_config(config, experts=2, dtype="float32")
    assert built.elements == read.elements
    assert built.layout.tensors == read.layout.tensors
    assert built.weight_bytes == read.weight_bytes == 3 * 2 * read.parameters
    for name in ("layers", "hidden", "intermediate", "vocabulary", "cache_values", "narrow"):
        assert getattr(built, name) == getattr(read, name), name
    assert read.companion_bytes > 10_000  # the tokenizer
    assert read.cache_values == 2 * 6 * 5 * 32


def test_a_model_that_is_not_here_has_the_parameters_that_its_makers_name():
    shape = Shape.of_config(QWEN, experts=2, dtype="bfloat16")
    assert shape.parameters == 494_032_768
    assert shape.weight_bytes == 3 * 2 * 494_032_768
    assert shape.largest == 151936 * 896  # the head is tied: one matrix
    assert shape.cache_values == 2 * 24 * 2 * 64


def test_dtype_of_the_files_counts():
    shape = Shape.of_config({**QWEN, "dtype": "float32"}, experts=1, dtype="bfloat16")
    assert shape.weight_bytes == 2 * 4 * shape.parameters
    assert not shape.narrow


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ({"hidden_size": 8}, "model_type"),
        ({"model_type": "qwen22"}, "models.shape"),
        ({**QWEN, "dtype": "int4"}, "int4"),
        ({**QWEN, "num_attention_heads": "many"}, "models.shape"),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(data, word):
    with pytest.raises(UsageError, match=word) as refused:
        Shape.of_config(data, experts=1, dtype="bfloat16")
    assert "\n" not in str(refused.value)


def test_absent_models_are_named_and_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert absent_models(["zoo:base", str(tmp_path), "no-such-org/no-such-model@main"]) == [
        "no-such-org/no-such-model@main"
    ]
