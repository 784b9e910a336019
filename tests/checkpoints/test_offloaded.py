"""Models whose weights accelerate keeps elsewhere: what is written there is what the model runs with."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import accelerate
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from evomerge.checkpoints.live import live_tensors
from evomerge.checkpoints.offloaded import offloaded_tensors
from evomerge.errors import UsageError
from tests.checkpoints.live_models import MODELS

Family = dict[str, Path]
TOKENS = torch.arange(8).view(1, -1)
#: With no GPU, "cpu" is where a module is, and "disk" where its weights wait.
MIXED = {
    "model.embed_tokens": "cpu",
    "model.layers.0": "disk",
    "model.layers.1": "cpu",
    "model.norm": "disk",
    "model.rotary_emb": "cpu",
    "lm_head": "disk",
}


def _load(path: Path, **options: object) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, **options).eval()


#: Ways to have weights elsewhere: (directory of the model, folder to offload to) -> model.
WAYS: dict[str, Callable[[Path, Path], PreTrainedModel]] = {
    "cpu_offload": lambda path, _: accelerate.cpu_offload(_load(path), execution_device=torch.device("cpu")),
    "disk_offload": lambda path, to: accelerate.disk_offload(_load(path), to, execution_device=torch.device("cpu")),
    "dispatch_model": lambda path, to: accelerate.dispatch_model(
        _load(path), MIXED, main_device=torch.device("cpu"), offload_dir=to
    ),
    "from_pretrained, some": lambda path, to: _load(path, device_map=MIXED, offload_folder=to),
    "from_pretrained, all": lambda path, to: _load(path, device_map={"": "disk"}, offload_folder=to),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["own head", "tied head"])
def test_what_is_written_is_what_runs(family: Family, tied: Family, tmp_path: Path, way: str, kind: str) -> None:
    path = (family if kind == "own head" else tied)["base"]
    stored = load_file(path / "model.safetensors")
    plain, model = _load(path), WAYS[way](path, tmp_path)
    before = plain(TOKENS).logits
    live = live_tensors(model)
    assert offloaded_tensors(model)
    assert all(torch.equal(live[name], tensor.float()) for name, tensor in stored.items())
    assert torch.equal(model(TOKENS).logits, before)
    for scale in (1.5, 0.25):
        for name, tensor in stored.items():
            live[name].copy_(tensor * scale)
            live_tensors(plain)[name].copy_(tensor * scale)
        wanted = plain(TOKENS).logits
        assert not torch.equal(wanted, before)
        assert torch.equal(model(TOKENS).logits, wanted)
    if kind == "tied head":
        assert live["lm_head.weight"].data_ptr() == live["model.embed_tokens.weight"].data_ptr()
    again = live_tensors(model)
    assert all(again[name].data_ptr() == tensor.data_ptr() for name, tensor in live.items())


def test_no_file_is_written_to_or_left_behind(family: Family, tmp_path: Path) -> None:
    path = family["base"]
    before = hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()
    for tensor in live_tensors(_load(path, device_map={"": "disk"}, offload_folder=tmp_path)).values():
        tensor.zero_()
    assert hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest() == before
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's table of mapped files")
def test_what_was_on_disk_is_not_in_memory(family: Family, tmp_path: Path) -> None:
    model = _load(family["base"], device_map=MIXED, offload_folder=tmp_path)
    on_disk = offloaded_tensors(model)
    assert len(on_disk) == 11  # nine of a layer, the last norm, the head
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = {int(line.split("-")[0], 16) for line in maps if str(tmp_path) in line and "(deleted)" in line}
    assert {tensor.data_ptr() for tensor in on_disk.values()} == mapped


@pytest.mark.parametrize("architecture", [name for name, (kind, _) in MODELS.items() if kind is AutoModelForCausalLM])
def test_models_that_run_in_another_form_than_their_files(tmp_path: Path, architecture: str) -> None:
    kind, settings = MODELS[architecture]
    torch.manual_seed(0)
    plain = kind.from_config(AutoConfig.for_model(architecture, **settings)).eval()
    plain.save_pretrained(tmp_path / "model")
    model = _load(tmp_path / "model", device_map={"": "disk"}, offload_folder=tmp_path / "offload")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    live, own = live_tensors(model), live_tensors(plain)
    for name, tensor in stored.items():
        assert torch.equal(live[name], tensor), name
        live[name].copy_(0.5 * tensor)
        own[name].copy_(0.5 * tensor)
    with torch.no_grad():
        assert torch.equal(model(TOKENS).logits, plain(TOKENS).logits)


def test_a_checkpoint_is_no_place_to_write(family: Family) -> None:
    model = _load(family["base"], device_map={"": "disk"})
    with pytest.raises(UsageError, match="from the files of its checkpoint.*load it with an offload_folder"):
        live_tensors(model)


def test_a_folder_that_cannot_be_written(family: Family, tmp_path: Path) -> None:
    model = _load(family["base"], device_map={"": "disk"}, offload_folder=tmp_path / "offload")
    (tmp_path / "offload").rmdir()
    with pytest.raises(UsageError, match="offload folder .*: No such file or directory"):
        live_tensors(model)


def test_a_model_that_moves_is_refused(family: Family) -> None:
    model, _ = accelerate.cpu_offload_with_hook(_load(family["base"]), torch.device("cpu"))
    with pytest.raises(UsageError, match="moves between devices at every call"):
        live_tensors(model)


def test_an_unknown_store_is_refused(family: Family) -> None:
    from types import MappingProxyType

    model = _load(family["base"])
    accelerate.cpu_offload(model, torch.device("cpu"), state_dict=MappingProxyType(model.state_dict()))
    with pytest.raises(UsageError, match="in a mappingproxy, which no merge can be written to"):
        live_tensors(model)


def test_a_model_without_values_is_refused(family: Family) -> None:
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(family["base"]))
    with pytest.raises(UsageError, match="no values for 'model.embed_tokens.weight'"):
        live_tensors(model)


def test_a_model_at_home_has_nothing_elsewhere(family: Family) -> None:
    assert offloaded_tensors(_load(family["base"])) == {}
