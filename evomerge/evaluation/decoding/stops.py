"""When an answer ends: an end token, a stop string, or the token limit; told from its tokens as they come.

A stop string can only be completed by a token that holds its last character, so text is decoded only after such
tokens. This file knows nothing about models.
"""

from collections.abc import Sequence, Set

from lm_eval.models.utils import postprocess_generated_text
from transformers import PreTrainedTokenizerBase

from evomerge.evaluation.types import Generation


class Endings:
    """Tells where answers end, for one set of stop strings.

    Args:
        tokenizer: decodes answers.
        completing: the tokens that may complete one of the stop strings, from `completing_tokens`.
        stops: stop strings.
        ends: end tokens.
        limit: most tokens of an answer.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        completing: Set[int],
        stops: Sequence[str],
        ends: Set[int],
        limit: int,
    ) -> None:
        self._tokenizer, self._completing, self._ends, self.limit = tokenizer, completing, ends, limit
        self._stops = [stop for stop in stops if stop]

    def ended(self, tokens: Sequence[int]) -> bool:
        """Say whether an answer is complete with its newest token."""
        return tokens[-1] in self._ends or len(tokens) >= self.limit or self._stopped(tokens)

    def finish(self, tokens: Sequence[int], seconds: float) -> Generation:
        """Return the answer whose tokens are complete, as lm-eval cuts it."""
        text = postprocess_generated_text(self._decode(tokens), stop=self._stops, think_end_token=None)
        truncated = tokens[-1] not in self._ends and not self._stopped(tokens)
        return Generation(text, len(tokens), truncated, seconds)

    def _stopped(self, tokens: Sequence[int]) -> bool:
        if tokens[-1] not in self._completing:
            return False
        text = self._decode(tokens)
        return any(stop in text for stop in self._stops)

    def _decode(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text


def token_texts(tokenizer: PreTrainedTokenizerBase, size: int) -> list[str]:
    """Return the text of each of a model's `size` tokens, or one that contains it."""
    # Twice in a row, since a decoder may strip the space in front of the first.
    texts: list[str] = tokenizer.batch_decode([[token, token] for token in range(size)])
    return texts


def completing_tokens(texts: Sequence[str], stops: Sequence[str]) -> frozenset[int]:
    """Return the tokens, of which `texts` are the texts, that may complete one of the stop strings."""
    last = {stop[-1] for stop in stops if stop}
    # Tokens that decode to no valid text alone are bytes of a longer character, maybe of the last one.
    return frozenset(token for token, text in enumerate(texts) if "\ufffd" in text or not last.isdisjoint(text))
