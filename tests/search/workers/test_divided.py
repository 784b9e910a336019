"""Whole searches with models beyond one device, each in the process of a worker: the same as with whole models.

Here a device map divides a model between main memory and the disk, and vLLM one between two processes on the CPU.
"""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from evomerge.zoo import model_path
from tests.search.runs import command, environment, search, search_arguments
from tests.search.workers.test_zoo import scores, wait_for, workers_of

pytestmark = pytest.mark.slow

VLLM = sys.executable if find_spec("vllm") else os.environ.get("EVOMERGE_VLLM_PYTHON")
with_vllm = pytest.mark.skipif(
    VLLM is None, reason="vLLM is not installed here, and EVOMERGE_VLLM_PYTHON names no Python that has it"
)

#: Every other module waits on the disk.
PLACES = ["model.embed_tokens", *(f"model.layers.{layer}" for layer in range(6)), "model.norm", "model.rotary_emb"]
DEVICE_MAP = ", ".join(f"{module}: {('cpu', 'disk')[place % 2]}" for place, module in enumerate([*PLACES, "lm_head"]))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The same search by one worker, with the whole model on the CPU."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    done = search(run, "workers=in_process")
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize("places", ["auto", f"{{{DEVICE_MAP}}}"], ids=["auto", "cpu and disk"])
def test_a_device_map_in_two_workers(whole, tmp_path, places):
    divided = search(
        tmp_path / "run",
        *("workers=spawned", "workers.devices=2"),
        *(f"evaluation.device_map={places}", f"evaluation.offload_folder={tmp_path / 'disk'}"),
    )
    assert divided.returncode == 0, divided.stderr
    assert scores(tmp_path / "run") == scores(whole)
    assert not list(tmp_path.glob("disk/*"))


def ten_heads(folder):
    """The base and an expert of the zoo with five heads more that say nothing, since five cannot be divided by two."""
    for name in ("base", "math"):
        made = folder / name
        shutil.copytree(model_path(name), made)
        config = json.loads((made / "config.json").read_text())
        config |= {"num_attention_heads": 10, "num_key_value_heads": 10}
        (made / "config.json").write_text(json.dumps(config))
        tensors = load_file(made / "model.safetensors")
        for key, tensor in tensors.items():
            if key.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
                tensors[key] = torch.nn.functional.pad(tensor, (0, 0, 0, 160))
            if key.endswith("o_proj.weight"):
                tensors[key] = torch.nn.functional.pad(tensor, (0, 160))
        save_file(tensors, made / "model.safetensors", metadata={"format": "pt"})
    return [
        *(f"models.base={folder / 'base'}", f"models.experts.math={folder / 'math'}"),
        *("~models.experts.code", "~models.experts.translate", "~tasks.zoo_translate", "budget.candidates=2"),
    ]


@with_vllm
def test_tensor_parallel_in_a_worker_that_is_killed(tmp_path):
    models = ten_heads(tmp_path)
    whole = search(tmp_path / "whole", "workers=in_process", *models)
    assert whole.returncode == 0, whole.stderr
    run, options = tmp_path / "run", "{tensor_parallel: 2, max_length: 1024, cache_gib: 0.3}"
    words = ["workers=spawned", "evaluation.backend=vllm", f"+evaluation.vllm={options}", *models]
    process = subprocess.Popen(
        [str(VLLM), *command(*search_arguments(run, *words))[1:]],
        stdout=subprocess.PIPE,
        env={**environment(), "PYTHONPATH": str(Path(__file__).parents[3])},
        text=True,
    )
    wait_for(run, 10, process)
    (worker,) = workers_of(process)
    family = worker.children(recursive=True)
    assert len(family) >= 2
    worker.kill()
    assert not psutil.wait_procs(family, timeout=30)[1]
    out, _ = process.communicate(timeout=900)
    assert process.returncode == 0, out
    assert "was killed by SIGKILL" in out
    assert scores(run) == scores(tmp_path / "whole")
