"""Where two answers of one model to one prompt part, and how nearly equal the model's choices were there.

The order of sums, and so the last bits of a logit, depends on the shape of a batch; where two tokens are likely to the
last bits, either may be said. This file tells such a tie from an error.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def tie_gap(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompt: list[int],
    first: str,
    second: str,
    *,
    stops: Sequence[str],
) -> float | None:
    """Return by how much the logits of two answers' tokens differ where the answers part, computed by the model alone.

    The answers are followed along what the model itself would say, up to where its next token goes on with one of them
    only. Where both say its second choice, that is a tie as well, and the larger difference is returned.

    Args:
        model, tokenizer: whose answers they are.
        prompt: the prompt's tokens.
        first, second: the two answers, cut at the stop strings.
        stops: the stop strings: an answer may have been cut at one, or ended by the model.

    Returns the difference of the two likeliest logits at that place, which is small for a tie, and None if they are not
    those of the two answers, which no tie explains, or if the answers never part.
    """
    said: list[int] = []
    gap = 0.0
    most = len(tokenizer.encode(first)) + len(tokenizer.encode(second))
    while len(said) <= most:
        with torch.inference_mode():
            tokens = torch.tensor([prompt + said], device=model.device)
            logits = model(tokens, use_cache=False).logits[0, -1].float()
        (high, low), choices = (part.tolist() for part in logits.topk(2))
        goes_on = [
            [_goes_on(tokenizer, answer, [*said, choice], stops) for answer in (first, second)] for choice in choices
        ]
        if all(goes_on[0]):
            said.append(choices[0])
            continue
        gap = max(gap, float(high - low))
        if any(goes_on[0]):
            return gap if goes_on[1][goes_on[0].index(False)] else None
        if not all(goes_on[1]):
            return None
        said.append(choices[1])
    return None


def _goes_on(tokenizer: PreTrainedTokenizerBase, answer: str, said: list[int], stops: Sequence[str]) -> bool:
    """Say whether an answer may begin with some tokens, or with its stop string be the beginning of them."""
    text = tokenizer.decode(said, skip_special_tokens=True)
    if said[-1] in tokenizer.all_special_ids:  # the model ends its answer
        return bool(text == answer)
    finished = text.rstrip("\ufffd")  # what follows are bytes of a character of which more are to come
    least = len(finished) + (finished != text)
    ends = [answer + stop for stop in stops]
    begins = any(whole.startswith(finished) and len(whole) >= least for whole in (answer, *ends))
    return begins or any(finished.startswith(whole) for whole in ends)
