"""Merging on a GPU gives the CPU's bits: on a GPU where there is one, else in Triton's interpreter."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

pytest.importorskip("triton", reason="triton comes with builds of torch for GPUs")

from evomerge.errors import CandidateError
from evomerge.merging import METHODS, MergeEngine, stream
from evomerge.merging.fingerprint import combine, fingerprint, to_text
from evomerge.merging.on_gpu import GpuMerger
from evomerge.merging.residence import Memory, Residence
from evomerge.merging.settings import resolve
from evomerge.merging.statistics import PoolStatistics
from evomerge.merging.tensors import PlannedTensor, TensorRecipe, plan_tensor
from evomerge.recipes import Recipe
from tests.merging.recipes import pool_of, recipe_of

Family = dict[str, Path]
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MEMORIES: list[Memory] = ["resident", "files"] if DEVICE.type == "cpu" else ["resident", "pinned", "files"]
#: One matrix, one vector, one long table: the interpreter is slow.
TENSORS = ("model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "model.norm.weight")


class Merger:
    """A GpuMerger and what it writes into."""

    def __init__(self, family: Family, memory: Memory, names: tuple[str, ...] = TENSORS) -> None:
        self.pool, self.names = pool_of(family), names
        self.residence = Residence(self.pool, DEVICE, memory, names=names)
        self.gpu = GpuMerger(self.residence, DEVICE)
        # plans are made from the weights in main memory
        self.statistics = PoolStatistics(self.pool, self.pool.layout.tensors, cache_bytes=0)
        self.out: dict[str, torch.Tensor] = {}

    def merge(self, recipe: Recipe) -> dict[str, int]:
        planned: list[PlannedTensor] = []
        settings = resolve(recipe, self.pool.layout)
        for name in self.names:
            piece = TensorRecipe.of(recipe, settings[name])
            planned.append(plan_tensor(name, piece, self.pool, self.statistics))
            size = planned[-1].operands.size
            self.out[name] = torch.zeros(size, dtype=planned[-1].dtype, device=DEVICE)
        return self.gpu.merge(planned, self.out)


def check(merger: Merger, recipe: Recipe) -> None:
    values = merger.merge(recipe)
    for name, tensor in stream(recipe, merger.pool):
        if name in merger.names:
            assert torch.equal(merger.out[name].cpu().view(torch.uint8), tensor.flatten().view(torch.uint8)), name
            assert values[name] == fingerprint(name, tensor)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("method", METHODS)
def test_bits_and_fingerprints_are_those_of_the_export(family: Family, method: str, memory: Memory) -> None:
    check(Merger(family, memory), recipe_of(family, method))


def test_what_was_prepared_for_one_recipe_does_not_leak_into_the_next(family: Family) -> None:
    merger = Merger(family, "resident")
    for changes in ({}, {"seed": 5}, {"dtype": "float32"}, {"method": "slerp"}, {"method": "linear"}, {}):
        settings: dict[str, Any] = {"method": "dare_linear", **changes}
        check(merger, recipe_of(family, settings.pop("method"), **settings))


def test_infinite_weights_are_refused_by_name(family: Family) -> None:
    weights = {label: {"layers.0": 1e39, "all": 0.5} for label in ("code", "math", "prose")}
    recipe = recipe_of(family, "linear", parameters={"weight": weights}, options={"normalize": {"all": False}})
    with pytest.raises(CandidateError, match=r"q_proj.* holds NaN or infinity"):
        Merger(family, "resident").merge(recipe)


@pytest.mark.slow
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("method", ["dare_ties", "slerp"])
def test_two_mergers_that_hold_a_part_each(family: Family, method: str, memory: Memory) -> None:
    """As when two GPUs hold a part of the model each."""
    mergers = [Merger(family, memory, TENSORS[:1]), Merger(family, memory, TENSORS[1:])]
    whole = MergeEngine(mergers[0].pool, AutoModelForCausalLM.from_pretrained(family["base"], dtype=torch.bfloat16))
    rest = Merger(family, "files", tuple(set(mergers[0].pool.layout.tensors) - set(TENSORS)))
    for seed in (3, 4):
        recipe = recipe_of(family, method, seed=seed)
        for merger in mergers:
            check(merger, recipe)
        total = combine(*(value for merger in (*mergers, rest) for value in merger.merge(recipe).values()))
        assert to_text(total) == whole.apply(recipe).fingerprint


@pytest.mark.skipif(DEVICE.type == "cpu", reason="needs a GPU: the engine takes the device from the model")
@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("method", METHODS)
def test_the_engine_builds_the_same_model_on_a_gpu(family: Family, method: str, memory: Memory) -> None:
    recipe, pool = recipe_of(family, method), pool_of(family)
    prints = []
    for device in ("cpu", "cuda"):
        model = AutoModelForCausalLM.from_pretrained(family["base"], dtype=torch.bfloat16).to(device)
        engine = MergeEngine(pool, model, memory=memory if device == "cuda" else None)
        prints.append(engine.apply(recipe).fingerprint)
        live = {name: tensor.cpu() for name, tensor in model.state_dict().items()}
        assert all(torch.equal(live[name], tensor) for name, tensor in stream(recipe, pool))
    assert len(set(prints)) == 1
