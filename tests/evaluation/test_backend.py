import json
import shutil
from dataclasses import replace

import pytest
import torch
from lm_eval.api.instance import Instance

from evomerge.errors import UsageError
from evomerge.evaluation import TransformersBackend, load_model
from evomerge.evaluation.batching import Batching
from evomerge.evaluation.quiet import undisturbed
from tests.evaluation.answering import PROMPTS, answers, generating, harness, texts


def stops_in(backend) -> list[str]:
    """Pieces of what the model says by itself, so that stop strings are met, some within a token and some across."""
    texts = [answer.text for answer in answers(backend, generating(until=["\0"]))]
    return [texts[0][5:7], texts[1][3:4], texts[2][8:12]]


@pytest.mark.parametrize("batch_size", [7, 64])
def test_answers_are_those_of_lm_eval(model_dir, batch_size):
    backend = TransformersBackend(*load_model(model_dir), batch_size=batch_size)
    theirs = harness(model_dir, batch_size)
    for stops in (["\n"], stops_in(backend), ["\0"]):
        expected = theirs.generate_until(generating(until=stops), disable_tqdm=True)
        assert backend.generate_until(generating(until=stops)) == expected
        assert len(set(expected)) > 5


def test_batches_are_the_longest_first(backend):
    reqs = generating()
    batches = backend.batches(reqs)
    assert [len(batch) for batch in batches] == [8] * 5
    lengths = [len(backend._encode(PROMPTS[index])) for batch in batches for index in batch]
    assert lengths == sorted(lengths, reverse=True)
    assert backend.batches(reqs) == batches


def test_other_options_are_other_batches(backend):
    mixed = generating(limit=3)[:4] + generating(limit=9)[:4]
    assert [sorted(batch) for batch in backend.batches(mixed)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [a.tokens for a in answers(backend, mixed)][4:] != [a.tokens for a in answers(backend, mixed)][:4]


def test_tokens_and_truncation(backend):
    free = answers(backend, generating(until=["\0"]))
    for answer in free:
        assert answer.truncated == (answer.tokens == 24) or answer.tokens == 24
    cut = [answer for answer in free if answer.truncated]
    assert len(cut) > 20
    assert all(answer.tokens == 24 for answer in cut)
    stop = cut[0].text[4:6]
    first = answers(backend, generating(until=[stop]))[free.index(cut[0])]
    assert not first.truncated
    assert first.text == cut[0].text.split(stop)[0]
    assert first.tokens < 24


def test_end_of_text_ends_an_answer(model_dir):
    """The token that the model would say next is made its end of text: it then says nothing, and is not truncated."""
    model, tokenizer = load_model(model_dir)
    with torch.inference_mode():
        token = int(model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [token]
    (answer,) = answers(TransformersBackend(model, tokenizer), generating(PROMPTS[:1]))
    assert (answer.tokens, answer.truncated) == (1, False)


def test_finished_rows_do_not_change_the_others(backend):
    """A row's answer is the same whether the rows beside it stop early or not (same shape of batch)."""
    prompts = PROMPTS[:8]
    long = answers(backend, generating(prompts, until=["\0"]))
    stop = long[0].text[2:4]
    for before, after in zip(long, answers(backend, generating(prompts, until=[stop])), strict=True):
        assert after.text == before.text.split(stop)[0]


def test_new_weights_in_place_give_new_answers(backend, model_dir):
    before = texts(backend, generating())
    kept = {name: tensor.clone() for name, tensor in backend.model.named_parameters()}
    with torch.no_grad():
        for tensor in backend.model.parameters():
            tensor.mul_(-0.5)
    backend.weights_changed()
    assert texts(backend, generating()) != before
    with torch.no_grad():
        for name, tensor in backend.model.named_parameters():
            tensor.copy_(kept[name])
    backend.weights_changed()
    assert texts(backend, generating()) == before


def weighing(pairs) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, 0) for pair in pairs]


def test_likelihoods_are_those_of_lm_eval(backend, model_dir):
    pairs = [(prompt, answer) for prompt in PROMPTS[:9] for answer in (" 7", " 1 2 3", "what", " numbers of sum")]
    pairs += [("", "what is"), ("Question: ", "the sum")]
    with undisturbed():
        theirs = harness(model_dir).loglikelihood(weighing(pairs), disable_tqdm=True)
    ours = backend.loglikelihood(weighing(pairs))
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    torch.testing.assert_close(torch.tensor(ours)[:, 0], torch.tensor(theirs)[:, 0], atol=1e-4, rtol=0)
    found = answers(backend, weighing(pairs), prefix="Question: what is ")
    torch.testing.assert_close(torch.tensor([f.logprob for f in found]), torch.tensor(ours)[:, 0], atol=1e-4, rtol=0)


def test_greedy_is_said_of_what_the_model_would_say(backend):
    """Of all one-token continuations of a prompt, only the likeliest is."""
    tokens = backend.tokenizer.batch_decode([[token] for token in range(300)])
    for prompt in PROMPTS[:3]:
        said = [token for token in tokens if len(backend.tok_encode(token)) == 1]
        of_one_token = backend.loglikelihood(weighing([(prompt, token) for token in said]))
        greedy = [logprob for logprob, is_greedy in of_one_token if is_greedy]
        assert all(logprob == max(of_one_token)[0] for logprob in greedy)
        assert len(set(greedy)) <= 1
    assert greedy


def test_continuations_of_one_token_cost_one_row(backend, monkeypatch):
    rows = []
    score = backend._decoder.score
    monkeypatch.setattr(backend._decoder, "score", lambda inputs, *rest: rows.extend(inputs) or score(inputs, *rest))
    backend.loglikelihood(weighing([(PROMPTS[2], choice) for choice in ("1", "2", "3", "4")]))
    assert len(rows) == 1


def test_rolling_likelihoods_are_those_of_lm_eval(model_dir):
    """Texts longer than the context are cut into windows; an empty one has likelihood one."""
    written = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in ("what is the sum " * 30, "7", " of" * 55)]
    model, tokenizer = load_model(model_dir)
    model.config.max_position_embeddings = 40
    theirs = harness(model_dir, 4)
    theirs._max_length = 40
    with undisturbed():
        expected = theirs.loglikelihood_rolling(written, disable_tqdm=True)
    backend = TransformersBackend(model, tokenizer, batch_size=4)
    assert backend.max_length == 40
    torch.testing.assert_close(backend.loglikelihood_rolling(written), expected, atol=1e-3, rtol=0)
    assert backend.loglikelihood_rolling([Instance("loglikelihood_rolling", {}, ("",), 0)]) == [0.0]


def test_a_shared_prefix_changes_no_answer(backend):
    prefix = "Question: what is the sum of numbers 1 2 3? Answer: #### 6\n" * 6
    prompts = [prefix + prompt for prompt in PROMPTS]
    whole = texts(backend, generating(prompts))
    assert texts(backend, generating(prompts), prefix) == whole
    assert backend._decoder._prefixes
    assert texts(backend, generating([*prompts[:9], "another beginning"]), prefix)[:9] == whole[:9]


def test_a_long_prefix_and_new_weights_in_place(model_dir):
    """The stale-cache trap: keys and values of the shared prefix must not outlive the weights."""
    prefix = "Question: what is the sum of numbers 1 2 3? Answer: #### 6\n" * 12
    reqs = generating([prefix + prompt for prompt in PROMPTS])
    model, tokenizer = load_model(model_dir)
    backend = TransformersBackend(model, tokenizer, batch_size=8)
    assert len(backend._encode(prefix)) > 200
    first = texts(backend, reqs, prefix)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            tensor.mul_(1.3 if "q_proj" in name else 0.8)
    backend.weights_changed()
    second = texts(backend, reqs, prefix)
    fresh, _ = load_model(model_dir)
    fresh.load_state_dict(model.state_dict())
    assert second == texts(TransformersBackend(fresh, tokenizer, batch_size=8), reqs)
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 10


def test_closing_stops_the_work(backend, monkeypatch):
    steps = []
    forward = backend._decoder._forward
    monkeypatch.setattr(backend._decoder, "_forward", lambda *a, **k: steps.append(1) or forward(*a, **k))
    reqs = generating(PROMPTS[:8], until=stops_in(backend), limit=60)
    steps.clear()
    parts = backend.respond(reqs)
    next(parts)
    parts.close()
    assert 0 < len(steps) < 50
    assert len(answers(backend, reqs)) == 8


def test_answers_come_while_others_go_on(backend):
    reqs = generating(PROMPTS[:8], until=stops_in(backend), limit=60)
    sizes = [len(part) for part in backend.respond(reqs)]
    assert len(sizes) > 2
    assert sum(sizes) == 8


def test_too_little_memory_halves_the_batch(backend, monkeypatch):
    """A real batch whose first try ends in the GPU's error, and whose halves are answered."""
    whole = texts(backend, generating(PROMPTS[:8]))
    start, sizes = backend._decoder.start, []

    def scarce(rows, *rest):
        sizes.append(len(rows))
        if len(rows) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return start(rows, *rest)

    monkeypatch.setattr(backend._decoder, "start", scarce)
    assert texts(backend, generating(PROMPTS[:8])) == whole
    assert sizes == [8, 4, 2, 2, 4, 2, 2]
    monkeypatch.setattr(backend._decoder, "start", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError("no")))
    with pytest.raises(torch.OutOfMemoryError):
        texts(backend, generating(PROMPTS[:1]))


def test_a_batch_that_a_process_was_killed_at_is_answered_in_parts(backend, monkeypatch):
    whole = texts(backend, generating(PROMPTS[:8]))
    start, sizes = backend._decoder.start, []
    monkeypatch.setattr(backend._decoder, "start", lambda rows, *rest: sizes.append(len(rows)) or start(rows, *rest))
    monkeypatch.setattr(backend, "sparing", True)
    assert texts(backend, generating(PROMPTS[:7])) == whole[:7]
    assert sizes == [2, 2, 2, 1]


def test_a_repetition_penalty_is_that_of_transformers(model_dir):
    model, tokenizer = load_model(model_dir)
    model.generation_config.repetition_penalty = 1.4
    theirs = harness(model_dir)
    theirs.model.generation_config.repetition_penalty = 1.4
    expected = theirs.generate_until(generating(), disable_tqdm=True)
    backend = TransformersBackend(model, tokenizer, batch_size=8)
    assert backend.generate_until(generating()) == expected
    assert backend._penalty({}) == 1.4


def test_other_ways_of_choosing_are_left_to_transformers(model_dir):
    model, tokenizer = load_model(model_dir)
    theirs = harness(model_dir)
    model.generation_config.no_repeat_ngram_size = theirs.model.generation_config.no_repeat_ngram_size = 2
    backend = TransformersBackend(model, tokenizer, batch_size=8)
    assert backend._penalty({}) is None
    assert backend.generate_until(generating()) == theirs.generate_until(generating(), disable_tqdm=True)


def test_an_unsuitable_model_is_left_to_transformers(backend, monkeypatch):
    expected = texts(backend, generating())
    pairs = weighing([(prompt, " 7") for prompt in PROMPTS[:5]])
    likely = backend.loglikelihood(pairs)
    monkeypatch.setattr(backend._decoder, "suitable", False)
    monkeypatch.setattr(backend._decoder, "start", None)
    assert texts(backend, generating()) == expected
    torch.testing.assert_close(
        torch.tensor(backend.loglikelihood(pairs))[:, 0], torch.tensor(likely)[:, 0], atol=1e-4, rtol=0
    )


def test_settings(backend):
    assert backend.settings == {
        "backend": "transformers",
        "dtype": "torch.float32",
        "device": "cpu",
        "batching": backend.batching.to_dict(),
        "max_length": 4096,
    }


def test_refusals(backend, model_dir, tmp_path):
    with pytest.raises(UsageError, match="lower max_gen_toks"):
        answers(backend, generating(limit=5000))
    with pytest.raises(UsageError, match="batch_size 0"):
        TransformersBackend(*load_model(model_dir), batch_size=0)
    with pytest.raises(UsageError, match="dtype 'float31' is unknown"):
        load_model(model_dir, dtype="float31")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden_size": "x"}, "Field 'hidden_size' expected int, got str"),
        ({"num_attention_heads": 7}, "not a multiple of the number of attention heads"),
        ({"num_attention_heads": 0}, "modulo by zero"),
        ({"hidden_act": "nope"}, "'nope'"),
    ],
)
@pytest.mark.parametrize("weights", [True, False])
def test_a_config_that_is_none(model_dir, tmp_path, change, words, weights):
    directory = shutil.copytree(model_dir, tmp_path / "model")
    config = directory / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(UsageError, match="cannot be loaded") as caught:
        load_model(directory, weights=weights)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_noise(backend, capfd):
    answers(backend, generating(PROMPTS[:3]))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_load_model_is_quiet(model_dir, capfd):
    model, _ = load_model(model_dir)
    assert not model.training
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


@pytest.fixture
def streaming(model_dir) -> TransformersBackend:
    """The backend with batches in three streams."""
    return TransformersBackend(*load_model(model_dir), batching=Batching(rows=8, tokens=10**6, streams=3))


def test_streams_change_no_answer(backend, streaming):
    assert texts(streaming, generating()) == texts(backend, generating())
    assert texts(streaming, generating(PROMPTS[:2])) == texts(backend, generating(PROMPTS[:2]))
    prefix = "Question: what is the sum of numbers 1 2 3? Answer: #### 6\n" * 6
    reqs = generating([prefix + prompt for prompt in PROMPTS])
    assert texts(streaming, reqs, prefix) == texts(backend, reqs)
    pairs = weighing([(prompt, choice) for prompt in PROMPTS[:9] for choice in (" 7", " 1 2 3", "what")])
    ours, theirs = streaming.loglikelihood(pairs), backend.loglikelihood(pairs)
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    torch.testing.assert_close(torch.tensor(ours)[:, 0], torch.tensor(theirs)[:, 0], atol=1e-4, rtol=0)


def test_streams_give_the_same_each_time(streaming):
    first = [replace(answer, seconds=0.0) for answer in answers(streaming, generating(limit=60))]
    for _ in range(3):
        assert [replace(answer, seconds=0.0) for answer in answers(streaming, generating(limit=60))] == first


def test_streams_leave_the_model_as_it_was(streaming):
    before = streaming.model.config._attn_implementation
    parts = streaming.respond(generating(PROMPTS[:8], limit=200, until=stops_in(streaming)))
    next(parts)
    parts.close()
    assert streaming.model.config._attn_implementation == before
    assert len(answers(streaming, generating())) == len(PROMPTS)


def test_a_small_model_has_a_stream_for_each_thread(model_dir):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        assert TransformersBackend(*load_model(model_dir)).batching.streams == 2
    finally:
        torch.set_num_threads(before)
