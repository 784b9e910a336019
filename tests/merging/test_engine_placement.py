"""The engine follows a model that accelerate has spread over devices: same bits, same fingerprint, same answers."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from evomerge.checkpoints.placement import placement
from evomerge.errors import CandidateError
from evomerge.merging import MergeEngine, engine
from evomerge.merging.residence import Memory
from evomerge.recipes import Recipe
from tests.checkpoints.test_offloaded import TOKENS, WAYS
from tests.merging.recipes import pool_of, recipe_of

Family = dict[str, Path]
GPUS = torch.cuda.device_count()


def _plain(family: Family, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(family["base"], dtype=dtype).eval()


def _recipes(family: Family) -> list[Recipe]:
    """One after the other: another method, other values, a function in torch, another dtype, and the first again."""
    first = recipe_of(family)
    weights = {**first.parameters["weight"], "code": {"layers.0": 0.8, "all": 0.7}}
    return [
        first,
        recipe_of(family, parameters={**first.parameters, "weight": weights}),
        recipe_of(family, "ties"),
        recipe_of(family, "slerp"),
        recipe_of(family, dtype="float16"),
        first,
    ]


def _check(family: Family, model: PreTrainedModel, memory: Memory | None = None, *, exact: bool = True) -> None:
    """Apply recipes to a model and to an ordinary one, and compare what they are and what they say."""
    plain, pool = _plain(family, model.dtype), pool_of(family)
    one, two = MergeEngine(pool, plain), MergeEngine(pool, model, memory=memory)
    entry = placement(model).entry
    seen = set()
    for recipe in _recipes(family):
        if model.dtype == torch.bfloat16 and recipe.dtype != "bfloat16":
            continue
        wanted, applied = one.apply(recipe), two.apply(recipe)
        assert (applied.fingerprint, applied.rebuilt) == (wanted.fingerprint, wanted.rebuilt)
        with torch.no_grad():
            logits = plain(TOKENS).logits
            other = model(TOKENS.to(entry)).logits.cpu()
        assert torch.equal(other, logits) if exact else torch.allclose(other, logits, atol=0.02)
        seen.add(tuple(logits.flatten()[:8].tolist()))
        if exact:
            options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
            assert torch.equal(model.generate(TOKENS, **options), plain.generate(TOKENS, **options))
    assert len(seen) >= 4  # the recipes differ, and so do the answers


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["own head", "tied head"])
def test_offloaded_weights(family: Family, tied: Family, tmp_path: Path, way: str, kind: str) -> None:
    models = family if kind == "own head" else tied
    _check(models, WAYS[way](models["base"], tmp_path))


def test_a_failure_in_one_part_is_a_failed_candidate(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second name for the CPU stands for a second device: its tensors are merged aside and copied to their own."""
    devices = iter([torch.device("cpu"), torch.device("cpu", 0)] * 100)
    monkeypatch.setattr(engine, "_merged_on", lambda _: next(devices))
    pool, model = pool_of(family), _plain(family)
    merging = MergeEngine(pool, model, threads=2)
    assert len(merging.residence.parts) == 2
    good = recipe_of(family)
    bad = recipe_of(
        family, "task_arithmetic", parameters={"weight": 3e38}, options={"lambda": {"layers.1": 1e38, "all": 1}}
    )
    wanted = MergeEngine(pool, plain := _plain(family)).apply(good)
    merging.apply(good)
    with pytest.raises(CandidateError, match="holds NaN or infinity"):
        merging.apply(bad)
    again = merging.apply(good)
    assert (again.fingerprint, again.rebuilt) == (wanted.fingerprint, len(pool.layout.tensors))
    live, other = model.state_dict(), plain.state_dict()
    assert all(torch.equal(live[name], other[name]) for name in other)


@pytest.mark.skipif(GPUS < 1, reason="needs a GPU")
@pytest.mark.parametrize("memory", [None, "resident", "pinned", "files"])
@pytest.mark.parametrize("rest", ["cpu", "disk"])
def test_a_gpu_and_the_rest_elsewhere(family: Family, tmp_path: Path, memory: Memory | None, rest: str) -> None:
    places = {
        "model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": rest, "model.norm": rest,
        "model.rotary_emb": 0, "lm_head": 0,
    }  # fmt: skip
    load = AutoModelForCausalLM.from_pretrained
    model = load(family["base"], dtype=torch.bfloat16, device_map=places, offload_folder=tmp_path)
    _check(family, model.eval(), memory, exact=False)


@pytest.mark.skipif(GPUS < 2, reason="needs two GPUs")
@pytest.mark.parametrize("memory", [None, "resident", "pinned", "files"])
def test_two_gpus(family: Family, memory: Memory | None) -> None:
    places = {
        "model.embed_tokens": 0, "model.layers.0": 0, "model.layers.1": 1, "model.norm": 1,
        "model.rotary_emb": 0, "lm_head": 1,
    }  # fmt: skip
    model = AutoModelForCausalLM.from_pretrained(family["base"], dtype=torch.bfloat16, device_map=places).eval()
    pool = pool_of(family)
    held = [torch.cuda.memory_allocated(gpu) for gpu in range(2)]
    merging = MergeEngine(pool, model, memory="resident")
    grown = [torch.cuda.memory_allocated(gpu) - before for gpu, before in enumerate(held)]
    assert min(grown) > 0.3 * sum(grown)
    assert set(merging.residence.parts) == {torch.device("cuda", 0), torch.device("cuda", 1)}
    _check(family, model, memory, exact=False)
