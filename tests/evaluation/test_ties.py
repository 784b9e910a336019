import pytest
import torch

from evomerge.evaluation import load_model
from evomerge.evaluation.ties import tie_gap
from tests.evaluation.answering import PROMPTS

LENGTH = 12


class Told:
    """A model of one's own to change, a prompt, and what the model says to it by itself."""

    def __init__(self, model_dir) -> None:
        self.model, self.tokenizer = load_model(model_dir)
        self.tokens = range(self.model.config.vocab_size)
        # Tokens of letters, each beginning with another one.
        first = {self.text([t])[0]: t for t in self.tokens if self.text([t]).isalpha() and self.text([t]).isascii()}
        self.letters = list(first.values())
        odd = [t for t in self.tokens if not self.text([t]).isascii()]
        with torch.no_grad():
            self.model.lm_head.weight[odd] = 0  # never said: no single byte of a longer character
        for prompt in PROMPTS:
            self.prompt = self.tokenizer.encode(prompt)
            self.said = self.say()
            if len({*self.said[:4]}) == 4 and not {*self.said} & {*self.letters, *self.tokenizer.all_special_ids}:
                return
        raise AssertionError("the model repeats itself")

    def text(self, tokens: list[int]) -> str:
        return self.tokenizer.decode(tokens, skip_special_tokens=True)

    def logits(self, said: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            return self.model(torch.tensor([self.prompt + said])).logits[0, -1]

    def say(self, *forced: int) -> list[int]:
        """The likeliest answer, after some tokens."""
        said = list(forced)
        while len(said) < LENGTH:
            said.append(int(self.logits(said).argmax()))
        return said

    def make_near(self, token: int, other: int, share: float = 1.0) -> None:
        """Make the logits of one token a share of those of another, everywhere."""
        with torch.no_grad():
            self.model.lm_head.weight[other] = share * self.model.lm_head.weight[token]

    def gap(self, first: list[int], second: list[int], stops=()) -> float | None:
        answers = [self.text(tokens).partition(stops[0] if stops else "\0")[0] for tokens in (first, second)]
        gaps = [
            tie_gap(self.model, self.tokenizer, self.prompt, *pair, stops=stops) for pair in (answers, answers[::-1])
        ]
        assert gaps[0] == gaps[1], "the order of the answers does not matter"
        return gaps[0]


@pytest.fixture
def told(model_dir) -> Told:
    return Told(model_dir)


def test_equal_answers_do_not_part(told):
    assert told.gap(told.said, told.said) is None
    assert told.gap([], []) is None


@pytest.mark.parametrize("place", [0, 3])
def test_a_true_tie(told, place):
    token, other = told.said[place], told.letters[0]
    told.make_near(token, other)
    before = told.said[:place]
    assert float(told.logits(before)[other]) == pytest.approx(float(told.logits(before).max()), abs=1e-5)
    assert told.gap(told.say(*before, token), told.say(*before, other)) == pytest.approx(0, abs=1e-5)
    assert told.gap(told.say(*before, token), told.say(*before, told.letters[1])) is None


def test_the_gap_is_that_of_the_logits(told):
    token, other = told.said[2], told.letters[0]
    told.make_near(token, other, 0.99)
    high = float(told.logits(told.said[:2])[token])
    gap = told.gap(told.said, told.say(*told.said[:2], other))
    assert gap == pytest.approx(0.01 * high, rel=1e-3)
    assert gap > 0.01


@pytest.mark.parametrize("place", [0, 3])
def test_answers_that_part_where_the_model_does_not_waver(told, place):
    """What neither of the two likeliest tokens says is no tie, nor is what both answers say and the model does not."""
    before = told.said[:place]
    unlikely = [t for t in told.logits(before).argsort().tolist() if t in told.letters][:2]
    assert told.gap(told.said, told.say(*before, unlikely[0])) is None
    assert told.gap(*(told.say(*before, token) for token in unlikely)) is None
    assert told.gap(*(told.say(unlikely[0], *before, token) for token in unlikely)) is None


def test_the_end_of_an_answer_may_be_the_tie(told):
    before, token = told.said[:3], told.said[3]
    assert told.gap(before, told.said) is None
    told.make_near(token, told.tokenizer.eos_token_id)
    assert told.gap(before, told.said) == pytest.approx(0, abs=1e-5)
    assert told.gap(told.said[:2], told.said) is None


def test_a_stop_string_may_be_the_tie(told):
    before, token, stop = told.said[:3], told.said[3], told.letters[0]
    told.make_near(token, stop)
    stops = (told.text([stop]),)
    whole = [*before, token, told.said[0]]
    assert told.gap(told.say(*before, stop), whole, stops=stops) == pytest.approx(0, abs=1e-5)
    assert told.gap(before, whole) is None  # without the stop string nothing ends the answer there


def test_a_stop_string_of_two_tokens(told):
    """Up to its second token the answer that it ends and the one that goes on say the same."""
    before, (head, tail, other) = told.said[:2], told.letters[:3]
    told.make_near(told.said[2], head, 1.1)
    told.make_near(told.say(*before, head)[3], tail, 1.2)
    assert told.say(*before)[2:4] == [head, tail]
    told.make_near(tail, other)
    stops = (told.text([head, tail]),)
    assert told.gap([*before, head, tail], [*before, head, other], stops=stops) == pytest.approx(0, abs=1e-5)
    told.make_near(tail, other, 0.9)
    assert told.gap([*before, head, tail], [*before, head, other], stops=stops) > 0.1


def test_both_answers_take_the_second_of_a_tie(told):
    """In batches of other shapes than one, the second of two near tokens may be the likelier one."""
    token, second = told.said[2], told.letters[0]
    told.make_near(token, second, 1 - 1e-4)
    before = [*told.said[:2], second]
    third, fourth = told.say(*before)[3], told.letters[1]
    told.make_near(third, fourth)
    gap = told.gap([*before, third], [*before, fourth])
    assert gap == pytest.approx(1e-4 * float(told.logits(told.said[:2]).max()), rel=0.1)


def byte_tokens(told) -> list[int]:
    """The first byte of é and è, and the last bytes of each."""
    head, *tails = (told.tokenizer.convert_tokens_to_ids(sign) for sign in "Ã©¨")
    assert [told.text([head, tail]) for tail in tails] == ["é", "è"]
    return [head, *tails]


def test_the_end_against_the_first_byte_of_a_character(told):
    before, (head, tail, _) = told.said[:3], byte_tokens(told)
    told.make_near(told.said[3], head)
    told.make_near(told.said[3], told.tokenizer.eos_token_id)
    assert told.gap(before, [*before, head, tail]) == pytest.approx(0, abs=1e-5)


def test_two_last_bytes_of_a_character(told):
    head, tail, other = byte_tokens(told)
    told.make_near(told.said[0], head, 1.2)
    told.make_near(told.say(head)[1], tail, 1.1)
    told.make_near(tail, other)
    assert told.say()[:2] in ([head, tail], [head, other])
    assert told.gap([head, tail], [head, other]) == pytest.approx(0, abs=1e-5)
