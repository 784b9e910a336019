import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evomerge.errors import UsageError
from evomerge.evaluation import TransformersBackend, load_model
from evomerge.evaluation.quiet import undisturbed

PROMPTS = [f"Question: what is {i} plus {'1 ' * (i % 11)}?\nAnswer:" for i in range(40)]


def requests(*, until=("\n",), limit=24, prompts=PROMPTS) -> list[Instance]:
    options = {"until": list(until), "do_sample": False, "temperature": 0.0, "max_gen_toks": limit}
    return [Instance("generate_until", {}, (prompt, dict(options)), 0) for prompt in prompts]


def answers(backend, reqs):
    found = {index: answer for batch in backend.generate(reqs) for index, answer in batch}
    return [found[index] for index in range(len(reqs))]


def harness(model_dir, batch_size) -> HFLM:
    with undisturbed():
        return HFLM(pretrained=str(model_dir), dtype="float32", device="cpu", batch_size=batch_size)


def stops_in(backend) -> list[str]:
    """Pieces of what the model says by itself, so that stop strings are met, some within a token and some across."""
    texts = [answer.text for answer in answers(backend, requests(until=["\0"]))]
    return [texts[0][5:7], texts[1][3:4], texts[2][8:12]]


@pytest.mark.parametrize("batch_size", [7, 64])
def test_answers_are_those_of_lm_eval(model_dir, batch_size):
    backend = TransformersBackend(*load_model(model_dir), batch_size=batch_size)
    theirs = harness(model_dir, batch_size)
    for stops in (["\n"], stops_in(backend), ["\0"]):
        expected = theirs.generate_until(requests(until=stops), disable_tqdm=True)
        assert backend.generate_until(requests(until=stops)) == expected
        assert len(set(expected)) > 5


def test_batches_are_those_of_lm_eval(backend):
    sizes = [len(batch) for batch in backend.generate(requests())]
    assert sizes == [8] * 5
    lengths = [backend._length(PROMPTS[index]) for batch in backend.generate(requests()) for index, _ in batch]
    assert lengths == sorted(lengths, reverse=True)


def test_other_options_are_other_batches(backend):
    mixed = requests(limit=3)[:4] + requests(limit=9)[:4]
    assert [sorted(index for index, _ in batch) for batch in backend.generate(mixed)] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [a.tokens for a in answers(backend, mixed)][4:] != [a.tokens for a in answers(backend, mixed)][:4]


def test_tokens_and_truncation(backend):
    free = answers(backend, requests(until=["\0"]))
    for answer in free:
        assert answer.truncated == (answer.tokens == 24) or answer.tokens == 24
    cut = [answer for answer in free if answer.truncated]
    assert len(cut) > 20
    assert all(answer.tokens == 24 for answer in cut)
    stop = cut[0].text[4:6]
    first = answers(backend, requests(until=[stop]))[free.index(cut[0])]
    assert not first.truncated
    assert first.text == cut[0].text.split(stop)[0]
    assert first.tokens < 24


def test_end_of_text_ends_an_answer(model_dir):
    """The token that the model would say next is made its end of text: it then says nothing, and is not truncated."""
    model, tokenizer = load_model(model_dir)
    with torch.inference_mode():
        token = int(model(**tokenizer(PROMPTS[0], return_tensors="pt")).logits[0, -1].argmax())
    model.generation_config.eos_token_id = [token]
    (answer,) = answers(TransformersBackend(model, tokenizer), requests(prompts=PROMPTS[:1]))
    assert (answer.tokens, answer.truncated) == (1, False)


def test_finished_rows_do_not_change_the_others(backend):
    """A row's answer is the same whether the rows beside it stop early or not (same shape of batch)."""
    prompts = PROMPTS[:8]
    long = answers(backend, requests(until=["\0"], prompts=prompts))
    stop = long[0].text[2:4]
    for before, after in zip(long, answers(backend, requests(until=[stop], prompts=prompts)), strict=True):
        assert after.text == before.text.split(stop)[0]


def test_new_weights_in_place_give_new_answers(backend, model_dir):
    before = answers(backend, requests())
    kept = {name: tensor.clone() for name, tensor in backend.model.named_parameters()}
    with torch.no_grad():
        for tensor in backend.model.parameters():
            tensor.mul_(-0.5)
    backend.weights_changed()
    assert answers(backend, requests()) != before
    with torch.no_grad():
        for name, tensor in backend.model.named_parameters():
            tensor.copy_(kept[name])
    backend.weights_changed()
    assert answers(backend, requests()) == before


def test_ending_tokens(backend):
    tokenizer = backend.tokenizer
    for stop in ("\n", "Question:", " ", "é", "1 2"):
        mask = backend.ending_tokens(stop)
        assert mask[tokenizer.encode(stop, add_special_tokens=False)[-1]]
        assert not mask.all()


def test_likelihoods_are_inherited(backend, model_dir):
    pairs = [Instance("loglikelihood", {}, (prompt, " 7"), 0) for prompt in PROMPTS[:5]]
    with undisturbed():
        ours = backend.loglikelihood(pairs, disable_tqdm=True)
        theirs = harness(model_dir, 8).loglikelihood(pairs, disable_tqdm=True)
    assert ours == theirs


def test_settings(backend):
    assert backend.settings == {
        "backend": "transformers",
        "dtype": "torch.float32",
        "device": "cpu",
        "batch_size": 8,
        "max_length": 4096,
    }


def test_refusals(backend, model_dir, tmp_path):
    with pytest.raises(UsageError, match="lower max_gen_toks"):
        answers(backend, requests(limit=5000))
    with pytest.raises(UsageError, match="batch_size 0"):
        TransformersBackend(*load_model(model_dir), batch_size=0)
    with pytest.raises(UsageError, match="dtype 'float31' is unknown"):
        load_model(model_dir, dtype="float31")
    with pytest.raises(UsageError, match="cannot be loaded"):
        load_model(tmp_path)


def test_no_noise(backend, capfd):
    answers(backend, requests(prompts=PROMPTS[:3]))
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_load_model_is_quiet(model_dir, capfd):
    model, _ = load_model(model_dir)
    assert not model.training
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""
