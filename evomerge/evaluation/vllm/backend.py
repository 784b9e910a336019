"""Generation by vLLM: an lm-eval language model around an engine of vLLM's whose weights may change between calls.

Prompts are encoded, cut on the left and stopped as lm-eval's own `vllm` model does it, and given to the engine all of a
batch at once; each answer is handed on as soon as it is there. The
keys and values of earlier batches are forgotten when a batch begins, so that an answer never depends on what was asked
before; prompts of one batch share those of what they have in common, by vLLM's own prefix cache.

This file knows nothing about tasks, and nothing about how the weights came to be.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import (
    handle_stop_sequences,
    has_bos_prefix,
    maybe_truncate,
    normalize_gen_kwargs,
    postprocess_generated_text,
)
from transformers import AutoTokenizer
from vllm import LLM, SamplingParams, TokensPrompt
from vllm.platforms import current_platform
from vllm.v1.engine.exceptions import EngineDeadError

from evomerge.errors import UsageError, WorkError, nearest
from evomerge.evaluation.harness import InBatches, pair_of, windows_of
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.types import MAX_GEN_TOKS, Generation, Likelihood, Response

GENERATE, LIKELIHOOD = "generate_until", "loglikelihood"


@dataclass(frozen=True)
class _Prompt:
    """What the engine is given.

    Attributes:
        tokens: the prompt.
        params: what to do with it.
        stops: where the answer is cut, in a generating request.
        scored_from: the first token whose likelihood counts, in the others.
    """

    tokens: list[int]
    params: SamplingParams
    stops: tuple[str, ...] = ()
    scored_from: int = 0


class VllmBackend(InBatches, TemplateLM):  # type: ignore[misc]
    """An lm-eval language model around vLLM.

    Args:
        path: the model's directory.
        dtype: float32, bfloat16 or float16.
        batch_size: requests that are given to the engine together; how many of them run at a time is vLLM's affair.
        max_length: the context in tokens; None: the model's own.
        tensor_parallel: over how many devices the model is spread.
        options: more engine arguments, as the user gave them; they are part of the settings.
        arguments: those that are not the user's affair.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        dtype: str,
        batch_size: int,
        max_length: int | None = None,
        tensor_parallel: int = 1,
        options: dict[str, Any],
        arguments: dict[str, Any],
    ) -> None:
        if batch_size < 1:
            raise UsageError(f"batch_size {batch_size}: must be 1 or more")
        super().__init__()
        with undisturbed():
            self.tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
            self.model = LLM(
                model=str(path),
                dtype=dtype,
                max_model_len=max_length,
                tensor_parallel_size=tensor_parallel,
                trust_remote_code=False,
                **{**arguments, **options},
            )
        self.batch_size = batch_size
        self._dtype, self._tensor_parallel, self._options = dtype, tensor_parallel, dict(options)
        self._sizes: dict[tuple[str, ...], int] = {}

    @property
    def max_length(self) -> int:
        """The context, in tokens."""
        return int(self.model.llm_engine.model_config.max_model_len)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return int(self.tokenizer.eos_token_id)

    @property
    def prefix_token_id(self) -> int:
        """The token that stands for an empty context."""
        begin = self.tokenizer.bos_token_id
        return self.eot_token_id if begin is None else int(begin)

    @property
    def tokenizer_name(self) -> str:
        """The tokenizer's name in lm-eval's caches."""
        return str(self.tokenizer.name_or_path).replace("/", "__")

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Return a text's tokens, with those that the tokenizer adds unless the text has them or it is told not to."""
        if add_special_tokens is None and has_bos_prefix(string, self.tokenizer.decode(self.prefix_token_id)):
            add_special_tokens = False
        added = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        tokens: list[int] = self.tokenizer.encode(string, **added)
        return tokens

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Return a conversation as the model's chat template writes it."""
        text: str = self.tokenizer.apply_chat_template(
            chat_history,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=not add_generation_prompt,
        )
        return text

    @property
    def settings(self) -> dict[str, Any]:
        """What shapes an answer besides weights, prompt and generation options, as plain data.

        Under `batching` the shape of batches, which decides only the last bits.
        """
        return {
            "backend": "vllm",
            "dtype": self._dtype,
            "device": current_platform.device_type,
            "batching": {"rows": self.batch_size},
            "max_length": self.max_length,
            "tensor_parallel": self._tensor_parallel,
            "options": self._options,
        }

    def weights_changed(self) -> None:
        """Forget the keys and values of earlier prompts: to be called after the weights were changed."""
        with _alive():
            if not self.model.reset_prefix_cache():
                raise WorkError("vLLM cannot forget its prefix cache while requests run; end them first")

    def call_workers(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        """Call a method of every worker with plain data; return what each of them returns."""
        with _alive():
            results: list[Any] = self.model.collective_rpc(method, args=tuple(arguments))
        return results

    def close(self) -> None:
        """Stop the engine and its processes."""
        self.model.llm_engine.engine_core.shutdown()

    # ---- requests ------------------------------------------------------------------------------------------------

    def batches(self, requests: Sequence[Instance], prefix: str = "") -> list[list[int]]:
        """Cut requests into batches: the longest first, as lm-eval does it. `prefix` is not needed, see `respond`."""
        order = sorted(range(len(requests)), key=lambda index: (-self._size(requests[index]), _texts(requests[index])))
        return [order[first : first + self.batch_size] for first in range(0, len(order), self.batch_size)]

    def respond(self, requests: Sequence[Instance], prefix: str = "") -> Iterator[list[tuple[int, Response]]]:
        """Answer a batch; yields (index, response) pairs as they are ready. Closing the iterator ends all requests.

        Args:
            requests: the batch, of any mixture of lm-eval's three kinds of requests.
            prefix: not needed: vLLM finds by itself what prompts have in common.

        Raises `UsageError` for sampling, for options that vLLM does not know, and if answers may be longer than the
        context.
        """
        prompts = [self._prompts(request) for request in requests]
        yield from self._run(requests, prompts)

    def _run(
        self, requests: Sequence[Instance], prompts: Sequence[Sequence[_Prompt]]
    ) -> Iterator[list[tuple[int, Response]]]:
        self.weights_changed()
        parts: dict[int, dict[int, tuple[Any, ...]]] = {index: {} for index in range(len(requests))}
        clock = time.perf_counter()
        flat = [(index, place, prompt) for index, own in enumerate(prompts) for place, prompt in enumerate(own)]
        empty: list[tuple[int, Response]] = [
            (index, Likelihood(0.0, False)) for index, own in enumerate(prompts) if not own
        ]
        if empty:
            yield empty
        with _alive():
            names = self.model.enqueue(
                [TokensPrompt(prompt_token_ids=prompt.tokens) for _, _, prompt in flat],
                [prompt.params for _, _, prompt in flat],
                use_tqdm=False,
            )
        # outputs bear the first part of the name
        running = {name.partition("-")[0]: (name, *where) for name, where in zip(names, flat, strict=True)}
        try:
            while running:
                with _alive():
                    outputs = self.model.llm_engine.step()
                ready: list[tuple[int, list[tuple[Any, ...]]]] = []
                for output in outputs:
                    if output.finished and output.request_id in running:
                        _, index, place, prompt = running.pop(output.request_id)
                        parts[index][place] = self._read(prompt, output)
                        if len(parts[index]) == len(prompts[index]):
                            ready.append((index, [parts[index][at] for at in range(len(prompts[index]))]))
                if ready:
                    now = time.perf_counter()
                    share, clock = (now - clock) / len(ready), now
                    yield [(index, _joined(requests[index], own, share)) for index, own in ready]
        finally:
            if running:
                self.model.llm_engine.abort_request([name for name, *_ in running.values()], internal=True)

    def _prompts(self, request: Instance) -> list[_Prompt]:
        """Return what a request asks of the engine: one prompt, or one for each window of a long document."""
        if request.request_type == GENERATE:
            return [self._generating(*request.args)]
        if request.request_type == LIKELIHOOD:
            return [self._scoring(*pair_of(self, *request.args))]
        windows = windows_of(self, request.args[0], longest=self.max_length - 2)  # as lm-eval cuts them for vLLM
        return [self._scoring(context, continuation) for context, continuation in windows]

    def _generating(self, text: str, options: dict[str, Any]) -> _Prompt:
        arguments: dict[str, Any] = dict(normalize_gen_kwargs(options, MAX_GEN_TOKS))
        stops = handle_stop_sequences(arguments.pop("until"), eos=self.tokenizer.decode(self.eot_token_id))
        limit = int(arguments.pop("max_gen_toks"))
        arguments.pop("do_sample")
        if arguments.get("temperature"):
            raise UsageError("answers are generated greedily; take the temperature out of the task's generation_kwargs")
        known = [name for name in SamplingParams.__struct_fields__ if not name.startswith("_")]
        for name in arguments:
            if name not in known:
                raise UsageError(f"generation option {name!r} is unknown to vLLM; {nearest(name, known)}")
        if limit >= self.max_length:
            raise UsageError(f"answers of {limit} tokens do not fit a context of {self.max_length}; lower max_gen_toks")
        tokens, _ = maybe_truncate(self.tok_encode(text), limit, self.max_length, side="left", verbose=False)
        params = SamplingParams(
            max_tokens=limit, stop=stops, skip_special_tokens=False, spaces_between_special_tokens=False, **arguments
        )
        return _Prompt(tokens, params, stops=tuple(stops))

    def _scoring(self, context: list[int], continuation: list[int]) -> _Prompt:
        """Likelihoods come with the prompt's tokens; vLLM generates one more token at least, so that must fit."""
        tokens = (context + continuation)[-(self.max_length - 1) :]
        params = SamplingParams(temperature=0.0, prompt_logprobs=1, max_tokens=1, detokenize=False)
        return _Prompt(tokens, params, scored_from=max(1, len(tokens) - len(continuation)))

    def _read(self, prompt: _Prompt, output: Any) -> tuple[Any, ...]:
        """Return what an output of the engine says: (text, tokens, truncated), or (log-probability, greedy, tokens)."""
        if prompt.params.prompt_logprobs is None:
            answer = output.outputs[0]
            text = postprocess_generated_text(answer.text, list(prompt.stops), None)
            return text, len(answer.token_ids), answer.finish_reason == "length"
        # each token's likelihood stands beside that of the likeliest
        scored = list(zip(prompt.tokens, output.prompt_logprobs, strict=True))[prompt.scored_from :]
        logprob = sum(known[token].logprob for token, known in scored)
        greedy = all(max(known, key=lambda other: known[other].logprob) == token for token, known in scored)
        return logprob, greedy, len(scored)

    def _size(self, request: Instance) -> int:
        texts = _texts(request)
        if texts not in self._sizes:
            self._sizes[texts] = sum(len(self.tok_encode(text)) for text in texts)
        return self._sizes[texts]

    # ---- lm-eval's own ways in -----------------------------------------------------------------------------------

    def _loglikelihood_tokens(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
        """What lm-eval's `loglikelihood` would call; the one here takes requests as they are."""
        raise NotImplementedError


def _texts(request: Instance) -> tuple[str, ...]:
    return tuple(part for part in request.args if isinstance(part, str))


def _joined(request: Instance, parts: list[tuple[Any, ...]], seconds: float) -> Response:
    """Make the response to a request from what the engine said to its prompts."""
    if request.request_type == GENERATE:
        text, tokens, truncated = parts[0]
        return Generation(text, tokens, truncated, seconds)
    greedy = request.request_type == LIKELIHOOD and parts[0][1]
    return Likelihood(sum(part[0] for part in parts), greedy, sum(part[2] for part in parts), seconds)


@contextmanager
def _alive() -> Iterator[None]:
    """Have a dead engine named in one line: it ends the work, not a candidate."""
    try:
        yield
    except EngineDeadError:
        raise WorkError("vLLM's engine died; its own messages say why (VLLM_LOGGING_LEVEL=INFO shows more)") from None
