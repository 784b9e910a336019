"""The words that the evaluator and the rest of the house share. Plain data, no behaviour worth the name."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Split = Literal["search", "selection", "report"]
SPLITS: tuple[Split, ...] = ("search", "selection", "report")

#: Longest answer where neither the user nor the task says; lm-eval's is 256, which cuts many a solution off.
MAX_GEN_TOKS = 512


@dataclass(frozen=True)
class Generation:
    """What a model said to one prompt.

    Attributes:
        text: the answer, up to the first stop string.
        tokens: how many tokens were generated, with the one that ended the answer.
        truncated: neither the model nor a stop string ended the answer, but the token limit.
        seconds: the request's share of the time that its batch took.
    """

    text: str
    tokens: int
    truncated: bool
    seconds: float = 0.0


@dataclass(frozen=True)
class Likelihood:
    """How likely a text is to a model, after a context or from its beginning.

    Attributes:
        logprob: the natural logarithm of its probability.
        greedy: whether each of its tokens is the likeliest at its place (false where that was not asked for).
        tokens: how many tokens were scored.
        seconds: the request's share of the time that its batch took.
    """

    logprob: float
    greedy: bool
    tokens: int = 0
    seconds: float = 0.0


Response = Generation | Likelihood


def responses_to_text(responses: Sequence[Response]) -> str:
    """Return the `answer` of an outcome: the text of one generation, or [logprob, greedy] pairs as JSON."""
    if isinstance(responses[0], Generation):
        return responses[0].text
    return json.dumps([[r.logprob, r.greedy] for r in responses if isinstance(r, Likelihood)])


def text_to_responses(outcome: "Outcome", *, likelihood: bool) -> list[Response]:
    """Return the responses that an outcome was scored from: the inverse of `responses_to_text`."""
    if not likelihood:
        return [Generation(outcome.answer, outcome.tokens, outcome.truncated, outcome.seconds)]
    pairs = json.loads(outcome.answer)
    share = [outcome.tokens if index == 0 else 0 for index in range(len(pairs))]
    seconds = outcome.seconds / len(pairs)
    return [Likelihood(pair[0], pair[1], tokens, seconds) for pair, tokens in zip(pairs, share, strict=True)]


@dataclass(frozen=True)
class Outcome:
    """The result of one model on one item of a task.

    Attributes:
        task: the task's name.
        item: the item's id, unique in its task and stable for ever: `<dataset split>:<index>`, as in `test:17`.
        score: the task's metric on this item, larger is better.
        tokens: how many tokens were generated, or scored.
        truncated: the answer was cut off by the token limit, not ended by the model or a stop string.
        answer: the generated text; for a task scored by likelihood, its requests' [logprob, greedy] pairs as JSON.
        prompt_hash: 16 hexadecimal digits of SHA-256 of the prompt.
        strict, flexible: the score under the filters `strict-match` and `flexible-extract`, where the task has both.
        seconds: the item's share of the time that its answer took.
        weight: what the item counts for where the metric is a weighted mean (the words of a document, ...).
    """

    task: str
    item: str
    score: float
    tokens: int
    truncated: bool
    answer: str
    prompt_hash: str
    strict: float | None = None
    flexible: float | None = None
    seconds: float = 0.0
    weight: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)
