"""What scores: a back end with a model in it, the engine that writes merges into that model, and the evaluator.

This file knows nothing about optimizers, ledgers or runs.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from evomerge.checkpoints import ModelPool
from evomerge.errors import UsageError
from evomerge.evaluation import (
    ChatTemplate,
    EvalTask,
    Evaluator,
    OutcomeStore,
    TransformersBackend,
    chat_from,
    load_model,
    sandbox,
)
from evomerge.evaluation.batching import Batching
from evomerge.evaluation.evaluator import Backend
from evomerge.evaluation.quiet import undisturbed
from evomerge.merging import MergeEngine
from evomerge.merging.engine import AppliedMerge
from evomerge.merging.residence import Memory
from evomerge.recipes import Recipe
from evomerge.search.config import Evaluation


class Engine(Protocol):
    """What writes a recipe's merge into the model that a back end answers with."""

    def apply(self, recipe: Recipe) -> AppliedMerge:
        """Write the merged weights; returns their fingerprint."""


def load_scorer(
    pool: ModelPool,
    tasks: Mapping[str, EvalTask],
    evaluation: Evaluation,
    device: str,
    store: OutcomeStore | None,
    *,
    memory: str = "auto",
    batching: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Engine, Evaluator]:
    """Load a model to live in, and build the engine that writes into it and the evaluator that scores it.

    Args:
        pool: base and experts.
        tasks, store: for the evaluator.
        evaluation: how to score.
        device: the device of the model.
        memory: where the pool's weights are kept: auto, resident, pinned or files.
        batching: the shape of batches at an earlier start of the same run, as plain data.
        say: is told where the weights are.
    """
    kept = None if memory == "auto" else cast(Memory, memory)
    engine: Engine
    backend: Backend
    if evaluation.backend == "vllm":
        from evomerge.evaluation.vllm import open_vllm

        engine, backend = open_vllm(pool, **_vllm_options(evaluation), memory=kept)
        say(f"models: {engine.residence.reason}")
    else:
        model, tokenizer = load_live(pool, evaluation, device)
        frozen = None if batching is None else Batching.from_dict(batching)
        backend = TransformersBackend(model, tokenizer, batch_size=evaluation.batch_size, batching=frozen)
        engine = MergeEngine(pool, model, on_change=backend.weights_changed, memory=kept)
        say(f"models: {engine.residence.reason}")
    evaluator = Evaluator(tasks, backend, allow_code_execution=evaluation.allow_code_execution, store=store)
    return engine, evaluator


def load_backend(path: Path, evaluation: Evaluation, device: str) -> Backend:
    """Load a back end with the model of a directory in it, as it is."""
    if evaluation.backend == "vllm":
        from evomerge.evaluation.vllm import load_vllm

        backend: Backend = load_vllm(path, **_vllm_options(evaluation))
        return backend
    model, tokenizer = load_model(path, **_placing(evaluation, device))
    return TransformersBackend(model, tokenizer, batch_size=evaluation.batch_size)


def load_live(pool: ModelPool, evaluation: Evaluation, device: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model that merges of this pool can be written into, with the tokenizer that they have.

    That is the base, unless the vocabulary is another: then a model of the merged shape, whose weights mean nothing
    until a merge is written.
    """
    with pool.live_directory() as (path, weights):
        return load_model(path, weights=weights, **_placing(evaluation, device))


def load_chat(tasks: Mapping[str, Any], source: ModelPool | Path) -> ChatTemplate | None:
    """Return the chat template of a pool's merges, or of the model in a directory, without loading a model.

    None where no task wants one: a tokenizer takes a while to load.
    """
    if not any(isinstance(keys, Mapping) and keys.get("chat_template") for keys in tasks.values()):
        return None
    with undisturbed(), ExitStack() as stack:
        path = stack.enter_context(source.live_directory())[0] if isinstance(source, ModelPool) else source
        return chat_from(AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True))


def start_sandbox(tasks: Iterable[EvalTask], evaluation: Evaluation) -> str | None:
    """Start the sandbox if a task needs it and may use it: before a model is loaded. Returns what it says of itself.

    Raises `WorkError` if the level that `evaluation.sandbox` requires cannot be had.
    """
    if not evaluation.allow_code_execution or not any(task.unsafe_code for task in tasks):
        return None
    sandbox.configure(require=evaluation.sandbox)
    sandbox.start()
    return sandbox.shared_sandbox().describe()


def pick_device(wanted: str) -> str:
    """Return the device to score on; `auto` is the first GPU if there is one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise UsageError(f"device {wanted!r} is unknown; write auto, cpu, cuda or cuda:N") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"device {wanted!r}: no GPU can be used here; write cpu or auto")
    return wanted


def _placing(evaluation: Evaluation, device: str) -> dict[str, Any]:
    return {
        "dtype": evaluation.dtype,
        "device": device,
        "device_map": evaluation.device_map,
        "offload_folder": evaluation.offload_folder,
    }


def _vllm_options(evaluation: Evaluation) -> dict[str, Any]:
    sized = {} if evaluation.batch_size == "auto" else {"batch_size": evaluation.batch_size}
    return {"dtype": evaluation.dtype, **sized, **evaluation.vllm}
