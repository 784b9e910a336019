import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.checkpoints import Checkpoint
from evomerge.errors import UsageError
from tests.checkpoints.models import copy_of, edit_json

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def test_reads_what_safetensors_reads(family: dict[str, Path]) -> None:
    checkpoint = Checkpoint.open(family["base"])
    expected = load_file(family["base"] / WEIGHTS)
    assert list(checkpoint.names) == sorted(expected)
    for name, tensor in expected.items():
        assert torch.equal(checkpoint.tensor(name), tensor)
        assert checkpoint.shape(name) == tuple(tensor.shape)
        assert checkpoint.dtype(name) == torch.bfloat16
    assert checkpoint.parameters == sum(tensor.numel() for tensor in expected.values())
    assert checkpoint.config["model_type"] == "llama"
    digest = hashlib.sha256((family["base"] / WEIGHTS).read_bytes()).hexdigest()
    assert checkpoint.sha256 == {WEIGHTS: digest}


def test_shards_hold_the_same(family: dict[str, Path], sharded: dict[str, Path]) -> None:
    whole, parts = Checkpoint.open(family["math"]), Checkpoint.open(sharded["math"])
    assert len(parts.files) > 2
    assert parts.names == whole.names
    assert all(torch.equal(parts.tensor(name), whole.tensor(name)) for name in whole.names)


def _truncate(path: Path) -> None:
    data = (path / WEIGHTS).read_bytes()
    (path / WEIGHTS).write_bytes(data[:-100])


def _header(path: Path, change: Callable[[dict[str, dict[str, object]]], object]) -> None:
    data = (path / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (path / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])


def _pickle(path: Path) -> None:
    (path / WEIGHTS).unlink()
    torch.save({"a": torch.ones(2)}, path / "pytorch_model.bin")


def _adapter(path: Path) -> None:
    (path / WEIGHTS).rename(path / "adapter_model.safetensors")
    (path / "adapter_config.json").write_text("{}")


def _quantised(path: Path) -> None:
    save_file({"a": torch.ones(4, dtype=torch.int8)}, path / WEIGHTS)


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda p: (p / "config.json").unlink(), "has no config.json"),
    "bad config": (lambda p: (p / "config.json").write_text("{nonsense"), "config.json: cannot be read as JSON"),
    "list config": (lambda p: (p / "config.json").write_text("[1]"), "must be a JSON mapping"),
    "deep config": (lambda p: (p / "config.json").write_text("[" * 100_000), "cannot be read as JSON"),
    "no weights": (lambda p: (p / WEIGHTS).unlink(), "has no weights"),
    "pickled": (_pickle, r"pickled weights \(pytorch_model.bin\).*convert them to safetensors"),
    "adapter": (_adapter, "is a LoRA adapter, no model of its own"),
    "quantised config": (lambda p: edit_json(p / "config.json", quantization_config={"bits": 4}), "is quantised"),
    "quantised weights": (_quantised, "type I8; only F32, F16 and BF16"),
    "empty": (lambda p: (p / WEIGHTS).write_bytes(b""), "truncated or not a safetensors file"),
    "garbage": (lambda p: (p / WEIGHTS).write_bytes(b"\xff" * 5000), "truncated or not a safetensors file"),
    "garbage header": (
        lambda p: (p / WEIGHTS).write_bytes((4000).to_bytes(8, "little") + b"\xff" * 5000),
        "corrupt header .not JSON",
    ),
    "list header": (lambda p: (p / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"[]"), "not a mapping"),
    "no tensors": (lambda p: (p / WEIGHTS).write_bytes((2).to_bytes(8, "little") + b"{}"), "hold no tensor"),
    "truncated": (_truncate, "truncated: tensor .* ends beyond the file"),
    "negative offset": (
        lambda p: _header(p, lambda h: h["model.norm.weight"].update(data_offsets=[-64, 0])),
        "corrupt header at tensor 'model.norm.weight'",
    ),
    "wrong size": (
        lambda p: _header(p, lambda h: h["model.norm.weight"].update(shape=[1 << 40, 1 << 40])),
        "size unlike its shape",
    ),
    "text shape": (lambda p: _header(p, lambda h: h["model.norm.weight"].update(shape="32")), "corrupt header"),
    "bool shape": (lambda p: _header(p, lambda h: h["model.norm.weight"].update(shape=[32, True])), "corrupt header"),
    "no dtype": (lambda p: _header(p, lambda h: h["model.norm.weight"].pop("dtype")), "corrupt header"),
    "overlap": (
        lambda p: _header(
            p,
            lambda h: h["model.layers.0.input_layernorm.weight"].update(h["model.layers.1.input_layernorm.weight"]),
        ),
        "does not start where the one before ends",
    ),
}


@pytest.mark.parametrize("kind", SPOILT)
def test_a_spoilt_model_is_refused_in_one_line(family: dict[str, Path], tmp_path: Path, kind: str) -> None:
    spoil, message = SPOILT[kind]
    path = copy_of(family["math"], tmp_path / "model")
    spoil(path)
    with pytest.raises(UsageError, match=message) as error:
        Checkpoint.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_huge_header_is_not_read(family: dict[str, Path], tmp_path: Path) -> None:
    path = copy_of(family["math"], tmp_path / "model")
    with (path / WEIGHTS).open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little"))
        file.truncate(300_000_000)  # sparse: takes no room
    with pytest.raises(UsageError, match="header claims 200000000 bytes"):
        Checkpoint.open(path)


def test_a_missing_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such directory"):
        Checkpoint.open(tmp_path / "nothing")


def _index(path: Path, **moves: str | None) -> None:
    """Move tensors (written with _ for .) in the index to other shards, or out of it."""
    index = json.loads((path / INDEX).read_text())
    for name, shard in moves.items():
        index["weight_map"].pop(name.replace("__", "."), None)
        if shard is not None:
            index["weight_map"][name.replace("__", ".")] = shard
    (path / INDEX).write_text(json.dumps(index))


def _other_shard(path: Path) -> str:
    shards = json.loads((path / INDEX).read_text())["weight_map"]
    return next(shard for shard in shards.values() if shard != shards["model.norm.weight"])


SPOILT_SHARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing shard": (lambda p: (p / Checkpoint.open(p).files[1]).unlink(), "names shard .* which is missing"),
    "tensor in another shard": (lambda p: _index(p, model__norm__weight=_other_shard(p)), "does not place there"),
    "tensor in no shard": (lambda p: _index(p, extra__weight=_other_shard(p)), "'extra.weight' is not in its shard"),
    "tensor not in the index": (lambda p: _index(p, model__norm__weight=None), "does not place there"),
    "parent directory": (lambda p: _index(p, model__norm__weight="../base/model.safetensors"), "is not the name of"),
    "absolute": (lambda p: _index(p, model__norm__weight="/etc/passwd"), "is not the name of"),
    "pickle": (lambda p: _index(p, model__norm__weight="weights.bin"), "is not the name of"),
    "no map": (lambda p: (p / INDEX).write_text("{}"), "has no weight_map"),
    "map of numbers": (lambda p: (p / INDEX).write_text('{"weight_map": {"a": 1}}'), "has no weight_map"),
}


@pytest.mark.parametrize("kind", SPOILT_SHARDS)
def test_a_spoilt_index_is_refused_in_one_line(sharded: dict[str, Path], tmp_path: Path, kind: str) -> None:
    spoil, message = SPOILT_SHARDS[kind]
    path = copy_of(sharded["math"], tmp_path / "model")
    spoil(path)
    with pytest.raises(UsageError, match=message) as error:
        Checkpoint.open(path)
    assert "\n" not in str(error.value)
