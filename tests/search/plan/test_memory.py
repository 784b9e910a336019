import psutil
import pytest
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.evaluation.batching import Batching
from evomerge.search.plan import memory
from evomerge.search.plan.memory import Batch, beside_a_gpu, fitted, on_device, on_host, rows_of, scoring
from evomerge.search.plan.shape import Shape

CONFIG = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
SHAPE = Shape.of_config(CONFIG, experts=2, dtype="bfloat16")
BATCH = Batch(rows=8, prompt=100, answer=28)


def host(*methods: str, resident: bool = True, there_is: int = 1 << 40) -> memory.Parts:
    return on_host(
        SHAPE,
        program=10**9,
        there_is=there_is,
        itemsize=4,
        experts=2,
        methods=methods,
        batches=[BATCH],
        resident=resident,
    )


def test_resident_weights_are_what_streaming_saves():
    assert host("linear").peak - host("linear", resident=False).peak == SHAPE.weight_bytes
    assert host("linear").lasting["live model"] == 4 * SHAPE.parameters
    assert set(host("linear").lasting) == {"program", "live model", "base and experts"}


def test_masks_and_tables_are_only_there_for_methods_that_have_them():
    assert host("dare_linear").lasting["masks"] == 2 * 2 * SHAPE.parameters
    assert host("ties").lasting["tables"] > 0
    assert "sorting" in host("ties").passing
    assert host("della").lasting["tables"] == 2 * 2 * SHAPE.parameters
    little = (SHAPE.weight_bytes + 1000) / memory.SHARE_OF_HOST
    small = host("dare_linear", "ties", there_is=int(little)).lasting
    assert small["masks"] == small["tables"] == pytest.approx(500, abs=2)


def test_what_passes_is_never_there_together():
    parts = memory.Parts({"a": 5}, {"b": 3, "c": 4})
    assert parts.peak == 9


def test_keys_and_values_grow_with_rows_and_tokens():
    cache = SHAPE.cache_values * 4
    twice = scoring(SHAPE, Batch(8, 100, 128), 4, "cpu") - scoring(SHAPE, BATCH, 4, "cpu")
    assert twice == 8 * 100 * cache
    assert SHAPE.cache_values == 2 * 2 * 2 * 16


def test_batches_shrink_to_what_is_left_as_they_do_in_a_search():
    each = (BATCH.prompt + BATCH.answer) * SHAPE.cache_values * 4
    assert fitted(SHAPE, BATCH, 4, "cpu", None).rows == fitted(SHAPE, BATCH, 4, "cpu", 1 << 40).rows == 8
    assert fitted(SHAPE, BATCH, 4, "cpu", 16 * each).rows == 4  # a quarter is for keys and values
    assert fitted(SHAPE, BATCH, 4, "cpu", 0).rows == fitted(SHAPE, BATCH, 4, "cpu", -5).rows == 1


def test_the_rule_of_batches_is_that_of_the_search():
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**CONFIG))
    real = Batching.of(model)
    tokens = max(rows for rows in (1 << power for power in range(40)) if rows <= real.tokens)
    free = psutil.virtual_memory().available
    mine = fitted(SHAPE, Batch(1 << 60, 0, 1), 4, "cpu", free).rows
    assert mine in (tokens // 2, tokens, 2 * tokens)  # what is free changes between two looks


def test_a_gpu_holds_the_models_or_some_tensors_on_their_way():
    resident, streamed = (
        on_device(SHAPE, there_is=None, itemsize=2, models=3, batches=[BATCH], resident=kept) for kept in (True, False)
    )
    assert resident.lasting["base and experts"] == SHAPE.weight_bytes
    assert streamed.lasting["tensors on their way"] == pytest.approx(
        3 * 2 * sum(sorted(SHAPE.elements.values())[-3:]), abs=3
    )


@pytest.mark.parametrize(
    ("items", "size", "kind", "rows"), [(50, "auto", "cpu", 50), (900, "auto", "cpu", 256), (900, 16, "cuda", 16)]
)
def test_rows_of_a_batch(items, size, kind, rows):
    assert rows_of(items, size, kind) == rows


def test_beside_a_gpu_weights_wait_in_main_memory_if_they_fit():
    def lasting(there_is: int, *, resident: bool) -> dict[str, int]:
        return dict(beside_a_gpu(SHAPE, program=5, there_is=there_is, itemsize=2, resident=resident).lasting)

    assert lasting(1 << 40, resident=True) == {"program": 5}
    assert lasting(1 << 40, resident=False) == {"program": 5, "base and experts": SHAPE.weight_bytes}
    assert lasting(SHAPE.weight_bytes, resident=False) == {"program": 5}
