from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from evomerge.checkpoints import ModelPool
from evomerge.errors import CandidateError, UsageError
from evomerge.merging import METHODS, MergeEngine, stream
from evomerge.merging.fingerprint import combine, fingerprint, to_text
from evomerge.recipes import Recipe
from tests.checkpoints.models import config
from tests.merging.recipes import WEIGHTS, pool_of, recipe_of

Family = dict[str, Path]


def _load(family: Family, dtype: torch.dtype = torch.float32) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(family["base"], dtype=dtype)


def _streamed(recipe: Recipe, pool: ModelPool) -> dict[str, torch.Tensor]:
    return dict(stream(recipe, pool))


def _same_bits(model: torch.nn.Module, tensors: dict[str, torch.Tensor]) -> bool:
    live = model.state_dict()
    return all(
        torch.equal(live[name].float().view(torch.int32), t.float().view(torch.int32)) for name, t in tensors.items()
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("method", METHODS)
def test_applied_equals_streamed_bit_for_bit(family: Family, method: str, dtype: str) -> None:
    pool, recipe = pool_of(family), recipe_of(family, method, dtype=dtype)
    model = _load(family)
    applied = MergeEngine(pool, model).apply(recipe)
    merged = _streamed(recipe, pool)
    assert tuple(merged) == pool.layout.tensors
    assert {t.dtype for t in merged.values()} == {getattr(torch, dtype)}
    assert _same_bits(model, merged)
    assert applied.fingerprint == to_text(combine(*(fingerprint(name, t) for name, t in merged.items())))
    assert applied.rebuilt == len(pool.layout.tensors)


def test_a_merge_is_none_of_its_models(family: Family) -> None:
    """The other tests would also pass if nothing were merged."""
    pool, recipe = pool_of(family), recipe_of(family)
    merged = _streamed(recipe, pool)
    for name, tensor in merged.items():
        for parent in (pool.base, *pool.experts.values()):
            assert not torch.equal(tensor, parent.tensor(name)), name


def test_sharding_is_nothing(family: Family, sharded: Family) -> None:
    whole = _streamed(recipe_of(family), pool_of(family))
    parts = _streamed(recipe_of(sharded), pool_of(sharded))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.parametrize("method", METHODS)
def test_threads_spans_and_memory_are_nothing(family: Family, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pool, recipe = pool_of(family), recipe_of(family, method)
    prints = set()
    for threads, cache, memory, span in ((1, 0, "resident", 1 << 20), (2, 1 << 30, "files", 64), (4, 5000, None, 1000)):
        monkeypatch.setattr("evomerge.merging.on_cpu._SPAN", span)
        engine = MergeEngine(pool, _load(family), threads=threads, cache_bytes=cache, memory=memory)
        prints.add(engine.apply(recipe).fingerprint)
    assert len(prints) == 1


def test_only_what_changed_is_rebuilt_and_the_result_is_as_from_fresh(family: Family) -> None:
    pool, model = pool_of(family), _load(family)
    engine = MergeEngine(pool, model)
    recipe = recipe_of(family)
    engine.apply(recipe)
    again = engine.apply(recipe)
    assert again.rebuilt == 0
    weights = {**WEIGHTS, "code": {"layers.0": 0.8, "all": 0.7}}
    changed = recipe_of(family, parameters={**recipe.parameters, "weight": weights})
    applied = engine.apply(changed)
    assert applied.rebuilt == len(pool.layout.members("layers.0"))
    assert applied.fingerprint != again.fingerprint
    fresh = _load(family)
    assert MergeEngine(pool, fresh).apply(changed).fingerprint == applied.fingerprint
    assert _same_bits(model, fresh.state_dict())
    assert engine.apply(recipe).fingerprint == again.fingerprint


def test_what_a_recipe_depends_on_is_rebuilt(family: Family) -> None:
    pool = pool_of(family)
    engine = MergeEngine(pool, _load(family))
    every = len(pool.layout.tensors)
    engine.apply(recipe_of(family))
    for other in (
        recipe_of(family, seed=4),
        recipe_of(family, seed=4, dtype="float16"),
        recipe_of(family, seed=4, dtype="float16", options={"lambda": 0.5}),
        recipe_of(family, "dare_ties"),
    ):
        assert engine.apply(other).rebuilt == every
    assert engine.apply(recipe_of(family, "task_arithmetic", seed=1)).rebuilt == every
    assert engine.apply(recipe_of(family, "task_arithmetic", seed=2)).rebuilt == 0


def test_fewer_experts_than_loaded(family: Family) -> None:
    pool, model = pool_of(family), _load(family)
    recipe = Recipe("linear", str(family["base"]), {"math": str(family["math"])}, {"weight": 1.0})
    MergeEngine(pool, model).apply(recipe)
    assert _same_bits(model, {name: pool.experts["math"].tensor(name) for name in pool.layout.tensors})


def test_a_model_in_the_recipes_dtype(family: Family) -> None:
    pool, recipe = pool_of(family), recipe_of(family)
    half, single = _load(family, torch.bfloat16), _load(family)
    one, two = (MergeEngine(pool, model).apply(recipe).fingerprint for model in (half, single))
    assert one == two
    assert _same_bits(half, single.state_dict())


def test_a_model_that_cannot_hold_the_dtype_is_refused(family: Family) -> None:
    engine = MergeEngine(pool_of(family), _load(family, torch.bfloat16))
    with pytest.raises(UsageError, match="dtype float32 does not fit into the loaded model"):
        engine.apply(recipe_of(family, dtype="float32"))


def test_tied_embeddings(tied: Family) -> None:
    pool, model = pool_of(tied), _load(tied)
    recipe = recipe_of(tied)
    MergeEngine(pool, model).apply(recipe)
    assert _same_bits(model, _streamed(recipe, pool))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()


def test_the_live_model_answers_with_the_merged_weights(family: Family) -> None:
    pool, model, recipe = pool_of(family), _load(family), recipe_of(family)
    engine = MergeEngine(pool, model)
    tokens = torch.arange(10).view(1, -1)
    with torch.no_grad():
        before = model(tokens).logits
        engine.apply(recipe)
        after = model(tokens).logits
        reference = _load(family)
        reference.load_state_dict({name: t.float() for name, t in _streamed(recipe, pool).items()})
        assert torch.equal(after, reference(tokens).logits)
    assert not torch.equal(before, after)


def test_listeners_hear_of_every_write(family: Family) -> None:
    heard: list[int] = []
    engine = MergeEngine(pool_of(family), _load(family), on_change=lambda: heard.append(1))
    engine.apply(recipe_of(family))
    assert len(heard) == 1
    engine.apply(recipe_of(family))
    assert len(heard) == 1
    with pytest.raises(CandidateError):
        engine.apply(_overflowing(family))
    assert len(heard) == 2


def _overflowing(family: Family) -> Recipe:
    return recipe_of(
        family, "task_arithmetic", parameters={"weight": 3e38}, options={"lambda": {"layers.1": 1e38, "all": 1}}
    )


def test_infinite_weights_are_a_failed_candidate_and_forgotten(family: Family) -> None:
    pool, model = pool_of(family), _load(family)
    engine = MergeEngine(pool, model, threads=2)
    good = recipe_of(family)
    before = engine.apply(good)
    with pytest.raises(CandidateError, match=r"merged tensor 'model\.\S+' holds NaN or infinity") as error:
        engine.apply(_overflowing(family))
    assert "\n" not in str(error.value)
    after = engine.apply(good)
    assert after.rebuilt == len(pool.layout.tensors)
    assert after.fingerprint == before.fingerprint
    assert _same_bits(model, _streamed(good, pool))


def test_float16_that_overflows_is_seen_after_rounding(family: Family) -> None:
    recipe = recipe_of(family, "task_arithmetic", parameters={"weight": 1e7}, dtype="float16")
    with pytest.raises(CandidateError, match="holds NaN or infinity"):
        MergeEngine(pool_of(family), _load(family)).apply(recipe)


def test_weights_that_cancel_are_a_failed_candidate_and_nothing_is_written(family: Family) -> None:
    engine = MergeEngine(pool_of(family), _load(family))
    good = recipe_of(family)
    engine.apply(good)
    with pytest.raises(CandidateError, match="sum to zero"):
        engine.apply(recipe_of(family, "linear", parameters={"weight": 0.0}))
    assert engine.apply(good).rebuilt == 0


def test_after_forget_everything_is_rebuilt(family: Family) -> None:
    pool, model = pool_of(family), _load(family)
    engine = MergeEngine(pool, model)
    engine.apply(recipe_of(family))
    with torch.no_grad():
        model.lm_head.weight.zero_()
    engine.forget()
    assert engine.apply(recipe_of(family)).rebuilt == len(pool.layout.tensors)
    assert _same_bits(model, _streamed(recipe_of(family), pool))


def test_recipes_about_other_models_are_refused(family: Family, float32: Family) -> None:
    engine = MergeEngine(pool_of(family), _load(family))
    with pytest.raises(UsageError, match="base is .*load the models that the recipe names"):
        engine.apply(recipe_of({**family, "base": float32["base"]}))
    with pytest.raises(UsageError, match="expert 'math' is "):
        engine.apply(recipe_of({**family, "math": float32["math"]}))
    with pytest.raises(UsageError, match="expert 'law' is not among those loaded: code, math, prose"):
        engine.apply(Recipe("linear", str(family["base"]), {"law": str(family["math"])}, {"weight": 1.0}))
    slash = {name: Path(f"{path}/../{path.name}") for name, path in family.items()}
    assert engine.apply(recipe_of(family)).rebuilt
    with pytest.raises(UsageError, match="no such directory"):
        engine.apply(recipe_of({**slash, "base": Path("/nowhere")}))


def test_a_bad_recipe_leaves_the_engine_as_it_was(family: Family) -> None:
    engine = MergeEngine(pool_of(family), _load(family))
    engine.apply(recipe_of(family))
    with pytest.raises(UsageError, match="unknown key 'lamda'"):
        engine.apply(recipe_of(family, options={"lamda": 1.0}))
    assert engine.apply(recipe_of(family)).rebuilt == 0


def test_a_model_of_another_kind_is_refused(family: Family, tied: Family) -> None:
    pool = pool_of(family)
    with pytest.raises(UsageError, match="the loaded model has no tensor"):
        MergeEngine(pool, LlamaForCausalLM(config()).model)
    with pytest.raises(UsageError, match="are one in the loaded model but two in"):
        MergeEngine(pool, LlamaForCausalLM(config(tied=True)))
    with pytest.raises(UsageError, match=r"has tensor 'lm_head.weight', which .* does not hold"):
        MergeEngine(pool_of(tied), LlamaForCausalLM(config()))
    wide = LlamaForCausalLM(config())
    wide.resize_token_embeddings(100)
    with pytest.raises(UsageError, match=r"of the loaded model has shape \[100, 32\]"):
        MergeEngine(pool, wide)


def test_a_parameter_that_does_not_lie_in_one_piece(family: Family) -> None:
    pool, model, recipe = pool_of(family), _load(family), recipe_of(family)
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().t().contiguous().t())
    assert not model.lm_head.weight.is_contiguous()
    applied = MergeEngine(pool, model).apply(recipe)
    assert _same_bits(model, _streamed(recipe, pool))
    assert applied.fingerprint == MergeEngine(pool, _load(family)).apply(recipe).fingerprint


def test_passthrough_copies_bit_for_bit(family: Family) -> None:
    pool, model = pool_of(family), _load(family)
    options = {"passthrough": {"head": "base", "layers.0.mlp": "math"}, "lambda": 0.7}
    recipe = recipe_of(family, options=options)
    plain = _streamed(recipe_of(family, options={"lambda": 0.7}), pool)
    merged = _streamed(recipe, pool)
    MergeEngine(pool, model).apply(recipe)
    assert _same_bits(model, merged)
    for name, tensor in merged.items():
        source = "" if name == "lm_head.weight" else "math" if "layers.0.mlp" in name else None
        expected = plain[name] if source is None else pool.tensor(source, name)
        assert torch.equal(tensor, expected), name
    # values that clash do not matter where nothing is merged
    cancelling = recipe_of(family, "linear", parameters={"weight": 0.0}, options={"passthrough": "math"})
    assert all(torch.equal(t, pool.tensor("math", n)) for n, t in _streamed(cancelling, pool).items())
