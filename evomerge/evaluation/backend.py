"""Answers by transformers: an lm-eval language model around a live model whose weights may change between calls.

Prompts are encoded, sorted and cut as lm-eval's own `HFLM` does it, so answers equal those of lm-eval's command line
but for the rounding of sums, which decides where two tokens are equally likely. What differs is the work: what all
prompts begin with is computed once, rows leave when their answer ends, requests that differ in their last token only
are one. Models with another kind of attention are left to transformers' `generate`.

This file knows nothing about tasks, and nothing about how the weights came to be.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import handle_stop_sequences, has_bos_prefix, normalize_gen_kwargs
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from evomerge.checkpoints.offloaded import offloaded_tensors
from evomerge.checkpoints.placement import DeviceMap, check_device_map, placement, spread
from evomerge.errors import UsageError, out_of_memory
from evomerge.evaluation.batching import Batching, cut
from evomerge.evaluation.decoding.decoder import Decoder, Decoding
from evomerge.evaluation.decoding.memory import UnsuitableError
from evomerge.evaluation.decoding.plain import generate
from evomerge.evaluation.decoding.stops import Endings, completing_tokens, token_texts
from evomerge.evaluation.decoding.streams import side_by_side
from evomerge.evaluation.harness import InBatches, Pair, pair_of, windows_of
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.refusals import REFUSALS, reason
from evomerge.evaluation.types import MAX_GEN_TOKS, Likelihood, Response

#: Steps between two looks at the tokens: looking makes a GPU wait.
STEPS = {"cpu": 1, "cuda": 8}

#: In how many parts a batch is answered that a process was killed at for want of memory.
PARTS = 4

#: Generation options that do not shape a greedy answer, or are dealt with elsewhere.
HARMLESS = frozenset(
    (
        *("transformers_version", "_from_model_config", "use_cache", "cache_implementation", "do_sample"),
        *("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
        *("max_length", "max_new_tokens", "length_penalty", "early_stopping"),
    )
)


def load_model(
    path: str | Path,
    *,
    dtype: str = "float32",
    device: str = "cpu",
    weights: bool = True,
    device_map: DeviceMap | None = None,
    offload_folder: str | Path | None = None,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model and its tokenizer from a local directory: safetensors only, no remote code, in evaluation mode.

    Without `weights` the directory holds none: the model has the shape that its config says and arbitrary weights. With
    a `device_map` accelerate spreads the model over devices, main memory and the disk (into `offload_folder`), and
    `device` is not used.

    Raises `UsageError` if the directory does not hold a causal language model that transformers can load.
    """
    if not hasattr(torch, dtype) or not isinstance(getattr(torch, dtype), torch.dtype):
        raise UsageError(f"dtype {dtype!r} is unknown; write float32, bfloat16 or float16")
    options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
    spreading: dict[str, Any] = {}
    if device_map is not None:
        device_map = check_device_map(device_map, offload_folder)
        spreading = {"device_map": device_map, "offload_folder": offload_folder}
    with undisturbed():
        try:
            tokenizer = AutoTokenizer.from_pretrained(str(path), **options)
            if weights:
                model = AutoModelForCausalLM.from_pretrained(
                    str(path), dtype=getattr(torch, dtype), use_safetensors=True, **spreading, **options
                )
            else:
                config = AutoConfig.from_pretrained(str(path), **options)
                with torch.random.fork_rng():  # weights are drawn from the global generator
                    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
                if device_map is not None:
                    spread(model, device_map, offload_folder)
        except (OSError, *REFUSALS) as error:
            raise UsageError(f"model {path} cannot be loaded: {reason(error)}") from None
        if device_map is None:
            model.to(device)
        else:
            offloaded_tensors(model)  # settles what is tied and what is on the disk, before anything is computed
        return model.eval(), tokenizer


class TransformersBackend(InBatches, HFLM):  # type: ignore[misc]
    """An lm-eval language model around a live model.

    Args:
        model: the model, on its device; its weights may be changed in place between calls.
        tokenizer: its tokenizer.
        batch_size: most prompts in a batch, or "auto"; the answers depend on it, by rounding.
        batching: the shape of batches, where it is known from an earlier start; overrides `batch_size`.

    Attributes:
        sparing: whether batches are answered in parts, since there was too little memory for them.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int | str = "auto",
        batching: Batching | None = None,
    ) -> None:
        if batch_size != "auto" and (not isinstance(batch_size, int) or batch_size < 1):
            raise UsageError(f"batch_size {batch_size!r}: must be auto, or 1 or more")
        self._wanted, self._given = batch_size, batching
        self.sparing = False
        with undisturbed():
            super().__init__(pretrained=model, tokenizer=tokenizer)
            self._device = placement(model).entry
            self._decoder = Decoder(model)
        self._tokens: dict[str, list[int]] = {}
        self._completing_of: dict[tuple[str, ...], frozenset[int]] = {}
        self._pairs: dict[tuple[str, str], Pair] = {}

    @cached_property
    def batching(self) -> Batching:
        """The shape of batches; found by the memory that is free when it is first asked for, and fixed from then on."""
        return self._given or Batching.of(self.model, self._wanted)

    @property
    def settings(self) -> dict[str, Any]:
        """What shapes an answer besides weights, prompt and generation options, as plain data."""
        return {
            "backend": "transformers",
            "dtype": str(self.model.dtype),
            "device": self.device.type,
            "batching": self.batching.to_dict(),
            "max_length": self.max_length,
        }

    def weights_changed(self) -> None:
        """To be called after the weights were changed: forgets the prefixes' keys and values."""
        self._decoder.weights_changed()

    def batches(self, requests: Sequence[Instance], prefix: str = "") -> list[list[int]]:
        """Cut requests into batches, longest first; requests of other kinds or options are in other batches."""
        groups: dict[str, list[int]] = {}
        for index, request in enumerate(requests):
            options = request.args[1] if request.request_type == "generate_until" else None
            groups.setdefault(repr((request.request_type, options)), []).append(index)
        result = []
        for indices in groups.values():
            kind = requests[indices[0]].request_type
            more = _normalized(requests[indices[0]])["max_gen_toks"] if kind == "generate_until" else 0
            sizes = {index: self._size(requests[index]) for index in indices}
            indices.sort(key=lambda index: (-sizes[index], requests[index].args[0]))
            shared = len(self._prefix_tokens(prefix))
            result += cut(indices, [max(1, sizes[index] - shared) + more for index in indices], self.batching)
        return result

    def respond(self, requests: Sequence[Instance], prefix: str = "") -> Iterator[list[tuple[int, Response]]]:
        """Answer one batch; yields (index, response) pairs as they are done, and stops when it is closed.

        A batch for which there is too little memory after all is answered in halves.

        Raises `UsageError` if the answers may be longer than the model's context.
        """
        size = -(-len(requests) // (PARTS if self.sparing else 1))
        for first in range(0, len(requests), size):
            for found in self._fitting(requests[first : first + size], prefix):
                yield [(first + place, response) for place, response in found]

    def _fitting(self, requests: Sequence[Instance], prefix: str) -> Iterator[list[tuple[int, Response]]]:
        """Answer one batch, in halves if it does not fit the memory."""
        done: set[int] = set()
        try:
            for found in self._respond(requests, prefix):
                done |= {index for index, _ in found}
                yield found
            return
        except (RuntimeError, MemoryError) as error:
            if len(requests) == 1 or not out_of_memory(error):
                raise
        torch.cuda.empty_cache()
        left = [index for index in range(len(requests)) if index not in done]
        half = (len(left) + 1) // 2
        for indices in (left[:half], left[half:]):
            if indices:
                for found in self._fitting([requests[index] for index in indices], prefix):
                    yield [(indices[place], response) for place, response in found]

    def _respond(self, requests: Sequence[Instance], prefix: str) -> Iterator[list[tuple[int, Response]]]:
        """Answer one batch, stream by stream where it has several."""
        generating = requests[0].request_type == "generate_until"
        answer = self._answer if generating else self._weigh
        streams = min(self.batching.streams, len(requests))
        if streams == 1:
            return (part for part in answer(requests, prefix) if part)
        each = -(-len(requests) // streams)
        # As many long rows to each; but what follows one context is answered together.
        shares = [
            range(first, len(requests), streams)
            if generating
            else range(first * each, min((first + 1) * each, len(requests)))
            for first in range(streams)
        ]

        def work(share: range) -> Iterator[list[tuple[int, Response]]]:
            for part in answer([requests[index] for index in share], prefix):
                yield [(share[place], replace(found, seconds=found.seconds / streams)) for place, found in part]

        return side_by_side([partial(work, share) for share in shares if share])

    # -- generating ----------------------------------------------------------------------------------------------------

    def _answer(self, requests: Sequence[Instance], prefix: str) -> Iterator[list[tuple[int, Response]]]:
        """Generate the answers of one batch."""
        options = _normalized(requests[0])
        limit = int(options.pop("max_gen_toks"))
        stops = handle_stop_sequences(
            list(options.pop("until", None) or []), eos=self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        )
        for name in ("temperature", "max_length"):
            options.pop(name, None)
        room = self.max_length - limit
        if room <= 0:
            raise UsageError(f"answers of {limit} tokens do not fit a context of {self.max_length}; lower max_gen_toks")
        rows = [self._encode(request.args[0])[-room:] for request in requests]
        ends = self._end_tokens()
        endings = Endings(self.tokenizer, self._completing(tuple(stops)), stops, ends, limit)
        penalty = self._penalty(options)
        began = time.perf_counter()
        if penalty is not None and self._decoder.suitable:
            try:
                decoding = self._decoder.start(rows, self._shared(prefix, rows), limit)
            except UnsuitableError:
                pass
            else:
                yield from self._decode(decoding, rows, endings, penalty, began)
                return
        pad = self.tokenizer.pad_token_id
        answers = generate(
            self.model, rows, endings, device=self.device, limit=limit, ends=ends, pad=pad, options=options
        )
        seconds = (time.perf_counter() - began) / len(rows)
        yield [(index, endings.finish(tokens, seconds)) for index, tokens in enumerate(answers)]

    def _decode(
        self, decoding: Decoding, rows: list[list[int]], endings: Endings, penalty: float, began: float
    ) -> Iterator[list[tuple[int, Response]]]:
        """Let a batch's rows take tokens until each answer has ended."""
        every = STEPS.get(self.device.type, 1)
        seen = _seen(rows, self.model, self.device) if penalty != 1 else None
        slots = list(range(len(rows)))  # slot -> index of its row
        answers: list[list[int]] = [[] for _ in rows]
        ended: set[int] = set()  # rows whose answers are complete, though some still have their slots
        clock, spent = began, 0.0  # `spent`: seconds that a row which goes on has taken so far
        tokens: Tensor | None = None
        while len(ended) < len(rows):
            longest = max(len(answers[index]) for index in slots if index not in ended)
            unread = []
            for _ in range(min(every, endings.limit - longest)):
                logits = decoding.logits(tokens)
                if seen is not None:
                    logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
                tokens = logits.argmax(dim=-1)
                if seen is not None:
                    seen = seen.scatter(1, tokens[:, None], True)
                unread.append(tokens)
            finished = []
            for index, read in zip(slots, torch.stack(unread, dim=1).tolist(), strict=True):
                if index not in ended and _extend(answers[index], read, endings):
                    finished.append(index)
            now = time.perf_counter()
            clock, spent = now, spent + (now - clock) / (len(rows) - len(ended))
            ended.update(finished)
            gone = [slot for slot, index in enumerate(slots) if index in ended]
            # Where steps are alike, a new number of rows costs a new capture.
            if gone and (not self._decoder.still or 2 * len(gone) >= len(slots)):
                order = decoding.drop(gone)
                slots = [slots[slot] for slot in order]
                places = torch.tensor(order, device=self.device, dtype=torch.long)
                tokens = unread[-1][places]
                seen = None if seen is None else seen[places]
            yield [(index, endings.finish(answers[index], spent)) for index in finished]
            clock = time.perf_counter()  # what was done with them is no time of ours

    def _penalty(self, options: Mapping[str, Any]) -> float | None:
        """Return the model's repetition penalty (1: none); None if answers are shaped in other ways too."""
        config = {**self.model.generation_config.to_diff_dict(), **options}
        # Off or neutral: false, none, nothing, and one, as in num_beams.
        shaping = {name for name, value in config.items() if value not in (None, False, 0, 1, "", [])} - HARMLESS
        shaping = {name for name in shaping if not name.endswith("_token_id")}
        if shaping - {"repetition_penalty"} or options.get("do_sample"):
            return None
        return float(config.get("repetition_penalty") or 1.0)

    @cached_property
    def _vocabulary(self) -> list[str]:
        return token_texts(self.tokenizer, self.model.config.get_text_config().vocab_size)

    def _completing(self, stops: tuple[str, ...]) -> frozenset[int]:
        if stops not in self._completing_of:
            self._completing_of[stops] = completing_tokens(self._vocabulary, stops)
        return self._completing_of[stops]

    def _end_tokens(self) -> set[int]:
        configured = self.model.generation_config.eos_token_id
        several = configured if isinstance(configured, list) else [] if configured is None else [configured]
        return {*several, self.eot_token_id}

    # -- likelihoods ---------------------------------------------------------------------------------------------------

    def _weigh(self, requests: Sequence[Instance], prefix: str) -> Iterator[list[tuple[int, Response]]]:
        """Return the likelihoods of one batch."""
        windows: list[tuple[int, Pair]] = []
        for index, request in enumerate(requests):
            if request.request_type == "loglikelihood_rolling":
                windows += [(index, pair) for pair in self._windows(request.args[0])]
            else:
                windows.append((index, self._pair(*request.args)))
        left = Counter(index for index, _ in windows)
        found: dict[int, Likelihood] = {}
        # Windows that differ in their last token only have one row.
        rows: dict[tuple[int, ...], list[tuple[int, list[int]]]] = {}
        for index, (context, target) in windows:
            row = (context + target)[-(self.max_length + 1) :]
            rows.setdefault(tuple(row[:-1]), []).append((index, target))
        rows = dict(sorted(rows.items(), key=lambda pair: -len(pair[0])))
        inputs = [[*row, 0] for row in rows]
        starts = [len(row) + 1 - max(len(target) for _, target in asked) for row, asked in rows.items()]
        clock = time.perf_counter()
        for asked, of_row in zip(rows.values(), self._logits(inputs, starts, prefix), strict=True):
            logprobs = torch.log_softmax(of_row, dim=-1)
            greedy = of_row.argmax(dim=-1)
            now = time.perf_counter()
            seconds, clock = (now - clock) / len(asked), now
            done: list[tuple[int, Response]] = []
            for index, target in asked:
                wanted = torch.tensor(target, device=logprobs.device)
                mine = logprobs[-len(target) :].gather(1, wanted[:, None])
                old = found.get(index, Likelihood(0.0, True))
                found[index] = Likelihood(
                    old.logprob + float(mine.sum()),
                    old.greedy and bool((greedy[-len(target) :] == wanted).all()),
                    old.tokens + len(target),
                    old.seconds + seconds,
                )
                left[index] -= 1
                if not left[index]:
                    rolling = requests[index].request_type == "loglikelihood_rolling"
                    done.append((index, replace(found[index], greedy=False) if rolling else found[index]))
            yield done
            clock = time.perf_counter()
        empty = [index for index in range(len(requests)) if index not in found]
        if empty:
            yield [(index, Likelihood(0.0, False)) for index in empty]

    def _logits(self, rows: list[list[int]], starts: list[int], prefix: str) -> Iterator[Tensor]:
        """Yield each row's logits (targets x vocabulary) from its start on."""
        if self._decoder.suitable:
            try:
                yield from self._decoder.score(rows, starts, self._shared(prefix, rows))
                return
            except UnsuitableError:
                pass
        for row, start in zip(rows, starts, strict=True):
            with torch.inference_mode():
                tokens = torch.tensor([row[:-1]], device=self.device)
                yield self.model(tokens, use_cache=False).logits[0, start - 1 :].float()

    def _pair(self, context: str, continuation: str) -> Pair:
        if (context, continuation) not in self._pairs:
            self._pairs[context, continuation] = pair_of(self, context, continuation)
        return self._pairs[context, continuation]

    def _windows(self, text: str) -> list[Pair]:
        return windows_of(self, text, longest=self.max_length)

    # -- tokens --------------------------------------------------------------------------------------------------------

    def _encode(self, prompt: str) -> list[int]:
        """Return a prompt's tokens, as lm-eval encodes it for generating."""
        if prompt not in self._tokens:
            options: dict[str, Any] = {}
            if has_bos_prefix(prompt, getattr(self.tokenizer, "bos_token", None)):
                options["add_special_tokens"] = False
            elif self.add_bos_token is not None:
                options["add_special_tokens"] = self.add_bos_token
            self._tokens[prompt] = self.tokenizer(prompt, **options)["input_ids"]
        return self._tokens[prompt]

    def _size(self, request: Instance) -> int:
        if request.request_type == "generate_until":
            return len(self._encode(request.args[0]))
        if request.request_type == "loglikelihood_rolling":
            return max((len(context) + len(target) for context, target in self._windows(request.args[0])), default=1)
        return sum(map(len, self._pair(*request.args)))

    def _prefix_tokens(self, prefix: str) -> list[int]:
        # Its last tokens may be others where the prompt goes on.
        return self._encode(prefix)[:-1] if prefix else []

    def _shared(self, prefix: str, rows: Sequence[Sequence[int]]) -> list[int]:
        """Return the prefix's tokens if all rows begin with them and go on, else none."""
        tokens = self._prefix_tokens(prefix)
        return tokens if all(len(row) > len(tokens) and list(row[: len(tokens)]) == tokens for row in rows) else []


def _normalized(request: Instance) -> dict[str, Any]:
    """Return a request's generation options in lm-eval's own names, the longest answer among them."""
    return dict(normalize_gen_kwargs(request.args[1], MAX_GEN_TOKS))


def _extend(answer: list[int], tokens: Sequence[int], endings: Endings) -> bool:
    """Add tokens to an answer up to where it ends; says whether it does."""
    for token in tokens:
        answer.append(token)
        if endings.ended(answer):
            return True
    return False


def _seen(rows: Sequence[Sequence[int]], model: PreTrainedModel, device: torch.device) -> Tensor:
    """Return a mask (rows x vocabulary) of the tokens that occur in each row."""
    seen = torch.zeros(len(rows), model.config.get_text_config().vocab_size, dtype=torch.bool, device=device)
    for index, row in enumerate(rows):
        seen[index, torch.tensor(list(set(row)), device=device)] = True
    return seen
