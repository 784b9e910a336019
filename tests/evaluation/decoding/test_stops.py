import pytest
from transformers import AutoTokenizer

from evomerge.evaluation.decoding.stops import Endings, completing_tokens, token_texts


@pytest.fixture(scope="module")
def tokenizer(model_dir):
    return AutoTokenizer.from_pretrained(model_dir)


def endings(tokenizer, stops, limit=100):
    completing = completing_tokens(token_texts(tokenizer, len(tokenizer)), stops)
    return Endings(tokenizer, completing, stops, {tokenizer.eos_token_id}, limit)


def length(ends, tokens):
    return next((n for n in range(1, len(tokens) + 1) if ends.ended(tokens[:n])), None)


@pytest.mark.parametrize("stop", ["\n", "Question:", " ", "é", "1 2", "日本", "🙂"])
@pytest.mark.parametrize("before", ["", "what is ", "naïve ö"])
def test_ends_at_the_first_token_that_completes_a_stop_string(tokenizer, stop, before):
    tokens = tokenizer.encode(before.replace(stop, "") + stop + " and more", add_special_tokens=False)
    ends = endings(tokenizer, [stop, "never said"])
    found = length(ends, tokens)
    assert stop in tokenizer.decode(tokens[:found])
    assert stop not in tokenizer.decode(tokens[: found - 1])
    answer = ends.finish(tokens[:found], 0.5)
    assert (answer.text, answer.tokens, answer.truncated, answer.seconds) == (
        before.replace(stop, ""), found, False, 0.5,
    )  # fmt: skip


def test_end_token_and_limit(tokenizer):
    tokens = [*tokenizer.encode("what is the sum", add_special_tokens=False), tokenizer.eos_token_id]
    assert length(endings(tokenizer, ["\n"]), tokens) == len(tokens)
    assert not endings(tokenizer, ["\n"]).finish(tokens, 0.0).truncated
    short = endings(tokenizer, ["\n"], limit=2)
    assert length(short, tokens) == 2
    assert short.finish(tokens[:2], 0.0).truncated


def test_no_stop_strings(tokenizer):
    ends = endings(tokenizer, ["", ""], limit=5)
    assert length(ends, tokenizer.encode("1 2 3 4 5 6 7 8", add_special_tokens=False)) == 5
