"""Where two answers of one model to one prompt part, and how nearly equal the model's choices were there.

The order of sums, and so the last bits of a logit, depends on the shape of a batch; where two tokens are likely to the
last bits, either may be said. This file tells such a tie from an error.
"""

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def tie_gap(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: list[int], first: str, second: str
) -> float | None:
    """Return by how much the logits of two answers' tokens differ where the answers part, computed by the model alone.

    The answers are followed along what the model itself would say, up to where its next token goes on with one of them
    only.

    Args:
        model, tokenizer: whose answers they are.
        prompt: the prompt's tokens.
        first, second: the two answers, cut at stop strings or not.

    Returns the difference of the two likeliest logits at that place, which is small for a tie, and None if they are not
    those of the two answers, which no tie explains.
    """
    said: list[int] = []
    while True:
        with torch.inference_mode():
            tokens = torch.tensor([prompt + said], device=model.device)
            logits = model(tokens, use_cache=False).logits[0, -1].float()
        (high, low), best = logits.topk(2).values.tolist(), logits.topk(2).indices.tolist()
        texts = [tokenizer.decode([*said, token], skip_special_tokens=True) for token in best]
        on = [[_agree(answer, text) for answer in (first, second)] for text in texts]
        if on[0] != [True, True]:
            apart = sum(on[0]) == 1 and on[1][1 - on[0].index(True)]
            return float(high - low) if apart else None
        if len(said) > len(tokenizer.encode(first)) + len(tokenizer.encode(second)):
            return None
        said.append(best[0])


def _agree(answer: str, text: str) -> bool:
    """Say whether a text so far and an answer go the same way as far as both go, but for an unfinished character."""
    text = text.rstrip("\ufffd")
    return answer.startswith(text) or text.startswith(answer)
