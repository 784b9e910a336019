import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evomerge.evaluation.decoding.decoder import Decoder, parts
from evomerge.evaluation.decoding.memory import UnsuitableError

SIZES = {
    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 64, "initializer_range": 0.3, "pad_token_id": 0,
    "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
FAST = {
    "llama": {},
    "mistral": {"sliding_window": None},
    "qwen2": {},
    "qwen3": {},
    "phi3": {},
    "olmo2": {},
    "gemma": {},
    "granite": {"logits_scaling": 3.0},
    "gpt2": {"n_embd": 32, "n_layer": 3, "n_head": 4},
    "mixtral": {"num_local_experts": 2, "num_experts_per_tok": 1},
    "qwen3_moe": {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 16},
}
PLAIN = {"gemma2": {}, "mamba": {"state_size": 4}, "gpt_oss": {"num_local_experts": 2, "num_experts_per_tok": 1}}


def model_of(kind, **options):
    config = AutoConfig.for_model(kind, **{**SIZES, **options})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def rows_of(lengths, shared=0, seed=1):
    generator = torch.Generator().manual_seed(seed)
    prefix = torch.randint(3, 60, (shared,), generator=generator).tolist()
    return prefix, [prefix + torch.randint(3, 60, (n,), generator=generator).tolist() for n in lengths]


def alone(model, row, steps):
    """The logits after a row and after each of the tokens that the model likes best, one row at a time."""
    found = []
    row = list(row)
    for _ in range(steps):
        with torch.inference_mode():
            found.append(model(input_ids=torch.tensor([row]), use_cache=False).logits[0, -1])
        row.append(int(found[-1].argmax()))
    return torch.stack(found)


def together(decoder, rows, prefix, steps, leave=()):
    """The same by the decoder; `leave` are (step, row) after which a row is dropped."""
    decoding = decoder.start(rows, prefix, steps)
    slots, tokens = list(range(len(rows))), None
    found = [[] for _ in rows]
    for step in range(steps):
        logits = decoding.logits(tokens)
        tokens = logits.argmax(-1)
        for slot, row in enumerate(slots):
            found[row].append(logits[slot])
        gone = [slot for slot, row in enumerate(slots) if (step, row) in leave]
        if gone:
            order = decoding.drop(gone)
            slots, tokens = [slots[slot] for slot in order], tokens[order]
    return [torch.stack(logits) for logits in found]


@pytest.mark.parametrize("kind", FAST)
@pytest.mark.parametrize("shared", [0, 30])
def test_logits_are_the_models_own(kind, shared):
    model = model_of(kind, **FAST[kind])
    decoder = Decoder(model)
    assert decoder.suitable
    prefix, rows = rows_of([9, 5, 5, 1, 12], shared)
    for row, logits in zip(rows, together(decoder, rows, prefix, 6), strict=True):
        torch.testing.assert_close(logits, alone(model, row, 6), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", PLAIN)
def test_other_attention_is_left_to_transformers(kind):
    assert not Decoder(model_of(kind, **PLAIN[kind])).suitable


def test_a_window_shorter_than_the_prompt_is_refused():
    decoder = Decoder(model_of("mistral", sliding_window=64))
    assert decoder.suitable
    prefix, rows = rows_of([9, 5], 30)
    together(decoder, rows, prefix, 5)
    with pytest.raises(UnsuitableError, match="sees less"):
        together(decoder, *reversed(rows_of([60])), 10)


@pytest.mark.parametrize("shared", [0, 30])
def test_a_model_in_bfloat16_has_keys_and_values_in_float32(shared):
    model = model_of("llama").bfloat16()
    prefix, rows = rows_of([9, 5, 5, 1, 12], shared)
    decoding = Decoder(model).start(rows, prefix, 3)
    logits = decoding.logits()
    assert logits.dtype == torch.bfloat16
    assert {part.dtype for pair in decoding._memory._slots for part in pair} == {torch.float32}
    whole = model.float()  # the same weights: what differs is rounding alone
    for row, found in zip(rows, logits, strict=True):
        expected = alone(whole, row, 1)[0]
        torch.testing.assert_close(found.float(), expected, atol=0.1 * float(expected.abs().max()), rtol=0.0)


def test_rows_leave_without_disturbing_others():
    model = model_of("llama")
    prefix, rows = rows_of([9, 5, 5, 1, 12, 7], 20)
    leave = {(0, 4), (1, 0), (1, 5), (3, 1)}
    found = together(Decoder(model), rows, prefix, 7, leave)
    steps = {row: step + 1 for step, row in leave}
    for index, (row, logits) in enumerate(zip(rows, found, strict=True)):
        assert len(logits) == steps.get(index, 7)
        torch.testing.assert_close(logits, alone(model, row, len(logits)), atol=1e-4, rtol=1e-4)


def test_all_rows_leave():
    decoding = Decoder(model_of("llama")).start([[5, 6], [7, 8, 9]], [], 3)
    decoding.logits()
    assert decoding.drop([1, 0]) == []


def test_a_prefix_is_kept_until_the_weights_change():
    model = model_of("llama")
    decoder = Decoder(model)
    prefix, rows = rows_of([4, 6], 40)
    together(decoder, rows, prefix, 2)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.mul_(0.7)
    stale = together(decoder, rows, prefix, 2)
    assert not torch.allclose(stale[0], alone(model, rows[0], 2), atol=1e-2)  # what happens to those who forget to say
    decoder.weights_changed()
    torch.testing.assert_close(together(decoder, rows, prefix, 2)[0], alone(model, rows[0], 2), atol=1e-4, rtol=1e-4)


def test_the_models_own_attention_is_back_afterwards():
    model = model_of("llama")
    before = model.config._attn_implementation
    decoder = Decoder(model)
    decoder.start([[5, 6]], [], 3).logits()
    assert model.config._attn_implementation == before
    with pytest.raises(UnsuitableError):
        Decoder(model_of("mistral", sliding_window=48)).start([[5] * 60], [], 3)
    assert model.config._attn_implementation == before


@pytest.mark.parametrize("shared", [0, 30])
def test_scores(shared):
    model = model_of("qwen2")
    prefix, rows = rows_of([9, 5, 5, 2, 12], shared)
    starts = [shared + start for start in (4, 3, 1, 1, 11)]
    for row, start, logits in zip(rows, starts, Decoder(model).score(rows, starts, prefix), strict=True):
        with torch.inference_mode():
            expected = model(input_ids=torch.tensor([row]), use_cache=False).logits[0, start - 1 : -1]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_scores_that_begin_within_the_prefix():
    model = model_of("llama")
    prefix, rows = rows_of([3, 3], 30)
    for row, logits in zip(rows, Decoder(model).score(rows, [30, 31], prefix), strict=True):
        assert len(logits) == len(row) - (30 if row is rows[0] else 31)


def test_parts():
    assert list(parts([], 10)) == []
    assert list(parts([20], 10)) == [(0, 1)]
    assert list(parts([5, 5, 5, 1], 10)) == [(0, 2), (2, 4)]
    assert list(parts([0, 0, 0], 2)) == [(0, 2), (2, 3)]
    for limit in (1, 7, 30, 1000):
        cuts = list(parts(list(range(30, 0, -1)), limit))
        assert [first for first, _ in cuts] == [0, *(last for _, last in cuts[:-1])]
        assert cuts[-1][1] == 30


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize("shared", [0, 30])
def test_steps_that_are_alike_give_the_same(kind, shared, monkeypatch):
    """What a CUDA graph captures, run without one: columns that are not written yet, behind a mask."""
    monkeypatch.setattr("evomerge.evaluation.decoding.memory.COLUMNS", 8)
    model = model_of(kind, **FAST[kind])
    decoder = Decoder(model)
    decoder.still = True
    prefix, rows = rows_of([9, 5, 5, 1, 12], shared)
    found = together(decoder, rows, prefix, 14, leave={(5, 0), (5, 3)})
    for row, logits in zip(rows, found, strict=True):
        torch.testing.assert_close(logits, alone(model, row, len(logits)), atol=1e-4, rtol=1e-4)


def test_steps_that_are_alike_have_the_same_shape():
    decoder = Decoder(model_of("llama"))
    decoder.still = True
    decoding = decoder.start([[5, 6], [7, 8, 9]], [], 300)
    shapes = []
    for _ in range(200):
        decoding.logits()
        shapes.append(decoding._memory.shape)
    assert shapes == [(2, 128)] * 126 + [(2, 256)] * 74
    assert not decoding._memory.capturable


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shared", [0, 30])
def test_captured_steps_give_the_models_own_logits(shared):
    model = model_of("llama").cuda()
    decoder = Decoder(model)
    assert decoder.suitable
    assert decoder.still
    prefix, rows = rows_of([9, 5, 5, 1, 12], shared)
    found = together(decoder, rows, prefix, 140, leave={(5, 0), (5, 3)})
    model.cpu()
    for row, logits in zip(rows, found, strict=True):
        torch.testing.assert_close(logits[:20].cpu(), alone(model, row, 20)[: len(logits)], atol=1e-2, rtol=1e-2)


def test_no_memory_is_read_before_it_is_written():
    """Whatever lies in fresh memory (here NaN, as torch fills it in this mode) must not reach a row."""
    model = model_of("llama")
    decoder = Decoder(model)
    prefix, rows = rows_of([9, 5, 1], 30)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        found = together(decoder, rows, prefix, 4)
        decoder.still = True
        found += together(decoder, rows, prefix, 4)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(logits.isfinite().all() for logits in found)
