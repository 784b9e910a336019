"""Generation by transformers: an lm-eval language model around a live model whose weights may change between calls.

Prompts are encoded, sorted, batched, padded and cut as lm-eval's own `HFLM` does it, and the same arithmetic runs on
the same batches, so answers equal those of lm-eval's command line. What differs is when to stop: `HFLM` goes on until
one stop string has ended every row of a batch; here a row is finished once its own text holds a stop string, and the
batch once all rows are. The text up to the stop is the same. An end-of-text token of the tokenizer ends a row even
where the model's own configuration does not name it.

This file knows nothing about tasks, and nothing about how the weights came to be.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import Collator, handle_stop_sequences, normalize_gen_kwargs, postprocess_generated_text
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)

from evomerge.errors import UsageError
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.types import Generation


def load_model(
    path: str | Path, *, dtype: str = "float32", device: str = "cpu", weights: bool = True
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from a local directory: safetensors only, no remote code, in evaluation mode.

    Without `weights` the directory holds none: the model has the shape that its config says and arbitrary weights.

    Raises `UsageError` if the directory does not hold a causal language model that transformers can load.
    """
    if not hasattr(torch, dtype) or not isinstance(getattr(torch, dtype), torch.dtype):
        raise UsageError(f"dtype {dtype!r} is unknown; write float32, bfloat16 or float16")
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    with undisturbed():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
            if weights:
                model = AutoModelForCausalLM.from_pretrained(
                    str(path), dtype=getattr(torch, dtype), use_safetensors=True, **options
                )
            else:
                config = AutoConfig.from_pretrained(str(path), **options)
                with torch.random.fork_rng():  # weights are drawn from the global generator
                    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
        except (OSError, ValueError, KeyError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(f"model {path} cannot be loaded: {first[:300]}") from None
        return model.to(device).eval(), tokenizer


class TransformersBackend(HFLM):  # type: ignore[misc]
    """An lm-eval language model around a live model.

    Args:
        model: the model, on its device; its weights may be changed in place between calls.
        tokenizer: its tokenizer.
        batch_size: prompts in a batch; the answers depend on it, by rounding.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 64) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: must be 1 or more")
        with undisturbed():
            super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        self._lengths: dict[str, int] = {}
        self._vocabulary: list[str] = []
        self._enders: dict[str, torch.Tensor] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """What shapes an answer besides weights, prompt and generation options, as plain data."""
        return {
            "backend": "transformers",
            "dtype": str(self.model.dtype),
            "device": self.device.type,
            "batch_size": self.batch_size,
            "max_length": self.max_length,
        }

    def weights_changed(self) -> None:
        """To be called after the weights were changed; nothing here is kept that depends on them."""

    def generate(self, requests: Sequence[Instance]) -> Iterator[list[tuple[int, Generation]]]:
        """Answer requests batch by batch, longest prompts first; yields the (index, answer) pairs of each batch.

        Raises `UsageError` if the answers may be longer than the model's context.
        """
        # As in lm-eval: requests with other generation options are other groups, and prompts are sorted within a group.
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            groups.setdefault(repr(sorted(request.args[1].items())), []).append(index)
        for indices in groups.values():
            options = requests[indices[0]].args[1]
            pairs = [(requests[index].args[0], index) for index in indices]
            batches = Collator(pairs, sort_fn=lambda pair: (-self._length(pair[0]), pair[0]))
            for batch in batches.get_batched(n=self.batch_size):
                answers = self._answer([prompt for prompt, _ in batch], options)
                yield [(index, answer) for (_, index), answer in zip(batch, answers, strict=True)]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Answer requests, in order: lm-eval's own way in."""
        answers = {index: answer.text for batch in self.generate(requests) for index, answer in batch}
        return [answers[index] for index in range(len(requests))]

    def _length(self, prompt: str) -> int:
        if prompt not in self._lengths:
            self._lengths[prompt] = len(self.tok_encode(prompt))
        return self._lengths[prompt]

    def _answer(self, prompts: list[str], options: dict[str, Any]) -> list[Generation]:
        """Answer one batch."""
        kwargs: dict[str, Any] = dict(normalize_gen_kwargs(options, self.max_gen_toks))
        stops = handle_stop_sequences(
            list(kwargs.pop("until", None) or []), eos=self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        )
        limit = kwargs.pop("max_gen_toks")
        kwargs.pop("temperature", None)  # 0: greedy
        room = self.max_length - limit
        if room <= 0:
            raise UsageError(f"answers of {limit} tokens do not fit a context of {self.max_length}; lower max_gen_toks")
        context, mask = self.tok_batch_encode(prompts, left_truncate_len=room, truncation=self.truncation)
        width = context.shape[1]
        eos = self._end_tokens()
        stopping = _StopStrings(self, stops, width, len(prompts))
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=context.to(self.device),
                attention_mask=mask.to(self.device),
                max_length=kwargs.pop("max_length", width + limit),
                stopping_criteria=StoppingCriteriaList([stopping]),
                pad_token_id=self.tokenizer.pad_token_id,
                eos_token_id=sorted(eos),
                use_cache=True,
                **kwargs,
            )
        return [
            self._finish(tokens[width:], stops, eos, length)
            for tokens, length in zip(output.tolist(), stopping.lengths.tolist(), strict=True)
        ]

    def _finish(self, tokens: list[int], stops: list[str], eos: set[int], stopped: int) -> Generation:
        """Turn a row of tokens into an answer; `stopped` is its length when it held a stop string, else 0."""
        ended = next((place + 1 for place, token in enumerate(tokens) if token in eos), 0)
        lengths = [length for length in (stopped, ended) if length]
        kept = tokens[: min(lengths)] if lengths else tokens
        text = postprocess_generated_text(self.tok_decode(kept), stop=stops, think_end_token=None)
        return Generation(text=text, tokens=len(kept), truncated=not lengths)

    def _end_tokens(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        several = configured if isinstance(configured, list) else [] if configured is None else [configured]
        return {*several, self.eot_token_id}

    def ending_tokens(self, stop: str) -> torch.Tensor:
        """Return a mask over the vocabulary of the tokens that may complete `stop`: those that hold its last character.

        Tokens that decode to no valid text alone (bytes of a longer character) may too.
        """
        if not self._vocabulary:
            size = self.model.config.get_text_config().vocab_size
            # Twice in a row, since a decoder may strip the space in front of the first.
            self._vocabulary = self.tokenizer.batch_decode([[token, token] for token in range(size)])
        if stop not in self._enders:
            may = [stop[-1] in text or "\ufffd" in text for text in self._vocabulary]
            self._enders[stop] = torch.tensor(may, device=self.device)
        return self._enders[stop]


class _StopStrings(StoppingCriteria):  # type: ignore[misc]
    """Ends each row once its text holds a stop string; `lengths` are the rows' lengths in tokens then, 0 before."""

    def __init__(self, backend: TransformersBackend, stops: list[str], width: int, rows: int) -> None:
        self._tokenizer, self._width = backend.tokenizer, width
        self._stops = [stop for stop in stops if stop]
        self._may = torch.stack([backend.ending_tokens(stop) for stop in self._stops]).any(dim=0)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=backend.device)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Return a mask of the rows (batch) that are finished."""
        candidates = self._may[input_ids[:, -1]] & (self.lengths == 0)
        for row in candidates.nonzero().flatten().tolist():
            tokens = input_ids[row, self._width :]
            text = self._tokenizer.decode(tokens, skip_special_tokens=True)
            if any(stop in text for stop in self._stops):
                self.lengths[row] = len(tokens)
        return self.lengths > 0
