"""What every back end has in common as an lm-eval language model: its ways in, and how texts are divided into tokens.

This file knows nothing about models.
"""

from collections.abc import Sequence
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.types import Generation, Likelihood, Response

#: Tokens of a context, and those of what follows it.
Pair = tuple[list[int], list[int]]


class InBatches:
    """lm-eval's three ways into a back end, by its `batches` and `respond`; stands in front of lm-eval's own class."""

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Return the answers, in order."""
        return [response.text for response in _all(self, requests) if isinstance(response, Generation)]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-probability of each request's continuation and whether it is the likeliest, in order."""
        return [(r.logprob, r.greedy) for r in _all(self, requests) if isinstance(r, Likelihood)]

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Return the log-probability of each text, in order."""
        return [response.logprob for response in _all(self, requests) if isinstance(response, Likelihood)]


def _all(backend: Any, requests: Sequence[Instance]) -> list[Response]:
    found: dict[int, Response] = {}
    with undisturbed():
        for batch in backend.batches(requests):
            for part in backend.respond([requests[index] for index in batch]):
                found |= {batch[place]: response for place, response in part}
    return [found[index] for index in range(len(requests))]


def pair_of(lm: TemplateLM, context: str, continuation: str) -> Pair:
    """Return the tokens of a context and of what follows it, as lm-eval divides them."""
    if context:
        pair: Pair = lm._encode_pair(context, continuation)
        return pair
    tokens = lm.tok_encode(continuation, add_special_tokens=False)
    first = [lm.prefix_token_id]
    return (first, tokens) if tokens[:1] != first else (tokens[:1], tokens[1:])


def windows_of(lm: TemplateLM, text: str, *, longest: int) -> list[Pair]:
    """Return the disjoint windows of at most `longest` tokens that cover a text, each with the most context.

    As lm-eval cuts them.
    """
    windows = get_rolling_token_windows(
        token_list=lm.tok_encode(text), prefix_token=lm.prefix_token_id, max_seq_len=longest, context_len=1
    )
    return [make_disjoint_window(window) for window in windows]
