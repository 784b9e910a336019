"""Real adapters: written by peft on a model directory, with random matrices, and merged by peft as the reference."""

import json
import warnings
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM

Tensors = dict[str, torch.Tensor]


def write_adapter(base: Path, to: Path, **settings: Any) -> Tensors:
    """Write an adapter on `base` and return the tensors that peft's own merge in float32 gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
        wrapped = peft.get_peft_model(model, peft.LoraConfig(**{"r": 4, "lora_alpha": 6, **settings}))
        shake(wrapped)
        wrapped.save_pretrained(to)
        return merged(base, to)


def shake(wrapped: Any) -> None:
    """Give every trained parameter a random value, of the size that training leaves."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in wrapped.named_parameters():
            if parameter.requires_grad:
                noise = 0.1 * torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise if "lora_A" in name or "lora_B" in name else parameter + noise.abs())


def merged(base: Path, adapter: Path) -> Tensors:
    whole = unmerged(base, adapter).merge_and_unload()
    return {name: tensor.detach().clone() for name, tensor in whole.state_dict().items()}


def unmerged(base: Path, adapter: Path) -> Any:
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return peft.PeftModel.from_pretrained(model, str(adapter)).eval()


def edit_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
