"""Decoding by transformers' own `generate`, for models and options that the decoder here does not know.

The same answers, token for token, as the decoder's up to rounding; slower, since no prefix is shared and no row
leaves. This file knows nothing about tasks.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, StoppingCriteria, StoppingCriteriaList

from evomerge.evaluation.decoding.stops import Endings


def generate(
    model: PreTrainedModel,
    rows: Sequence[Sequence[int]],
    endings: Endings,
    *,
    device: torch.device,
    limit: int,
    ends: set[int],
    pad: int,
    options: dict[str, Any],
) -> list[list[int]]:
    """Return the answer's tokens to each row of prompt tokens, up to where it ended."""
    width = max(map(len, rows))
    tokens = torch.tensor([[*[pad] * (width - len(row)), *row] for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    with torch.inference_mode():
        output = model.generate(
            input_ids=tokens,
            attention_mask=mask,
            max_new_tokens=limit,
            stopping_criteria=StoppingCriteriaList([_Ended(endings, width)]),
            pad_token_id=pad,
            eos_token_id=sorted(ends),
            use_cache=True,
            **options,
        )
    return [_cut(answer, endings) for answer in output[:, width:].tolist()]


def _cut(tokens: list[int], endings: Endings) -> list[int]:
    """Return tokens up to where the answer ended."""
    ends = (length for length in range(1, len(tokens) + 1) if endings.ended(tokens[:length]))
    return tokens[: next(ends, len(tokens))]


class _Ended(StoppingCriteria):  # type: ignore[misc]
    """Ends each row where its answer ends."""

    def __init__(self, endings: Endings, width: int) -> None:
        self._endings, self._width = endings, width

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Return a mask of the rows (batch) whose newest token ends them; transformers keeps them ended."""
        ended = [self._endings.ended(tokens) for tokens in input_ids[:, self._width :].tolist()]
        return torch.tensor(ended, device=input_ids.device)
