from pathlib import Path

import accelerate
import pytest
import torch
from accelerate.hooks import AlignDevicesHook, SequentialHook
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.checkpoints.offloaded import offloaded_tensors
from evomerge.checkpoints.placement import check_device_map, placement, spread
from evomerge.errors import UsageError
from tests.checkpoints.test_offloaded import MIXED, TOKENS

Family = dict[str, Path]
CPU = torch.device("cpu")


def test_where_a_model_computes(family: Family) -> None:
    model = AutoModelForCausalLM.from_pretrained(family["base"])
    there = placement(model)
    assert (there.entry, there.devices, there.offloaded) == (CPU, (CPU,), False)
    accelerate.cpu_offload(model, CPU)
    assert model.device.type == "meta"
    there = placement(model)
    assert (there.entry, there.devices, there.offloaded) == (CPU, (CPU,), True)
    # what accelerate leaves on a model for two GPUs
    model = AutoModelForCausalLM.from_pretrained(family["base"])
    model._hf_hook = AlignDevicesHook(1, io_same_device=True)
    model.lm_head._hf_hook = SequentialHook(AlignDevicesHook(None), AlignDevicesHook("cuda:0"))
    there = placement(model)
    assert there.devices == (torch.device("cuda", 1), torch.device("cuda", 0))
    assert (there.entry, there.offloaded) == (torch.device("cuda", 1), False)


def test_device_maps_of_a_configuration(tmp_path: Path) -> None:
    assert check_device_map("auto", None) == "auto"
    assert check_device_map({"": "disk"}, tmp_path) == {"": "disk"}
    for wrong, says in (
        ("atuo", r"device_map 'atuo' is unknown \(did you mean 'auto'\?\)"),
        ({}, "device_map is empty"),
        ({"": "disk"}, "puts '' on disk; say where with offload_folder"),
        ({"model": "gpu"}, "'gpu' for 'model' is no device"),
        ({"model": 99}, "'model' is to go to GPU 99, which is not there"),
    ):
        with pytest.raises(UsageError, match=says) as error:
            check_device_map(wrong, None)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_in_memory_is_spread(family: Family, tied: bool, tmp_path: Path) -> None:
    config = AutoConfig.from_pretrained(family["base"], tie_word_embeddings=tied)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        before = model(TOKENS).logits
        spread(model, MIXED, tmp_path)
        assert placement(model).offloaded
        assert not list(tmp_path.iterdir())
        assert torch.equal(model(TOKENS).logits, before)
        for tensor in offloaded_tensors(model).values():
            tensor.mul_(2)
        assert not torch.equal(model(TOKENS).logits, before)


def test_accelerate_chooses(family: Family) -> None:
    model = AutoModelForCausalLM.from_pretrained(family["base"])
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    for choice in ("auto", "sequential"):
        spread(model, choice)
        assert placement(model).entry.type == wanted


def test_a_map_that_does_not_do_is_refused(family: Family) -> None:
    model = AutoModelForCausalLM.from_pretrained(family["base"])
    with pytest.raises(UsageError, match="device_map: .*lm_head.weight"):
        spread(model, {"model": "cpu"})
    with pytest.raises(UsageError, match="the model needs the disk; say where with offload_folder"):
        spread(model, {"": "disk"})
