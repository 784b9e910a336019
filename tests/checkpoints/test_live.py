from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.checkpoints.live import live_tensors
from tests.checkpoints.live_models import MODELS


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("loaded", [False, True])
def test_the_files_tensors_are_the_models_own_memory(tmp_path: Path, architecture: str, loaded: bool) -> None:
    kind, settings = MODELS[architecture]
    model = kind.from_config(AutoConfig.for_model(architecture, **settings))
    model.save_pretrained(tmp_path)
    if loaded:
        model = kind.from_pretrained(tmp_path, dtype=torch.float32)
    stored = load_file(tmp_path / "model.safetensors")
    live = live_tensors(model)
    assert stored.keys() <= live.keys()
    for name, tensor in stored.items():
        assert torch.equal(live[name], tensor), name
    # what is written there is what the model runs with: no weight keeps its old value
    for name in stored:
        live[name].fill_(0.5)
    assert all(bool((parameter == 0.5).all()) for parameter in model.parameters())


def test_a_file_without_the_usual_prefix(tmp_path: Path) -> None:
    # as GPT-2's own file is written
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model("gpt2", **MODELS["gpt2"][1]))
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    short = {name.removeprefix("transformer."): tensor for name, tensor in stored.items()}
    save_file(short, tmp_path / "model.safetensors", metadata={"format": "pt"})
    live = live_tensors(AutoModelForCausalLM.from_pretrained(tmp_path))
    assert all(torch.equal(live[name], tensor) for name, tensor in short.items())


def test_a_plain_module_keeps_its_names() -> None:
    module = torch.nn.Linear(2, 2)
    live = live_tensors(module)
    assert live.keys() == {"weight", "bias"}
    live["bias"].fill_(3)
    assert module.bias.tolist() == [3, 3]
