"""Scoring with vLLM, the merge engine inside its workers.

    engine, backend = open_vllm(pool, dtype="bfloat16")
    engine.apply(recipe)

Needs the extra `vllm`. Importing this package imports neither vLLM nor torch.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evomerge.errors import UsageError, WorkError, refuse_unknown

if TYPE_CHECKING:
    from evomerge.checkpoints import ModelPool
    from evomerge.evaluation.vllm.backend import VllmBackend
    from evomerge.evaluation.vllm.engine import VllmEngine

__all__ = ["load_vllm", "open_vllm"]

_WORKER = "evomerge.evaluation.vllm.worker.EvomergeWorker"
# What the environment says already stays; the rest is silence, and no report of use to vLLM's makers.
_ENVIRONMENT = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
_CACHE_GIB_ON_CPU = 2.0
# The options of this back end, and those of vLLM that it sets itself.
_OWN = ("batch_size", "max_length", "memory_share", "cache_gib", "tensor_parallel", "own_process", "threads")
_OURS = {
    *("model", "tokenizer", "trust_remote_code", "load_format", "dtype", "max_model_len", "tensor_parallel_size"),
    *("worker_cls", "worker_extension_cls", "gpu_memory_utilization", "kv_cache_memory_bytes", "use_tqdm_on_load"),
}


def open_vllm(
    pool: "ModelPool",
    *,
    dtype: str = "bfloat16",
    batch_size: int = 512,
    max_length: int | None = None,
    memory_share: float = 0.85,
    cache_gib: float | None = None,
    tensor_parallel: int = 1,
    own_process: bool = False,
    memory: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> "tuple[VllmEngine, VllmBackend]":
    """Start vLLM with a model that merges of this pool can be written into.

    Args:
        pool: the base and its experts; the workers open the same ones.
        memory: where each worker keeps the pool's weights for merging: "resident" (main memory), "files", or None to
            choose; several workers choose files, whose pages they share.
        threads: how many threads merge in each worker; None: one a processor that torch may use.
        dtype, batch_size, max_length, memory_share, cache_gib, tensor_parallel, own_process, options: see `load_vllm`.

    Returns the engine that writes merges and the back end that answers; `backend.close()` ends both. Raises
    `UsageError` without vLLM, and `WorkError` where it does not start.
    """
    if memory not in (None, "resident", "files"):
        raise UsageError(f"memory {memory!r}: vLLM's workers merge in main memory; write resident or files")
    if memory is None and tensor_parallel > 1:
        memory = "files"
    with pool.live_directory() as (path, weights):
        backend = load_vllm(
            path,
            weights=weights,
            dtype=dtype,
            batch_size=batch_size,
            max_length=max_length,
            memory_share=memory_share,
            cache_gib=cache_gib,
            tensor_parallel=tensor_parallel,
            own_process=own_process,
            **options,
        )
    from evomerge.evaluation.vllm.engine import VllmEngine

    engine = VllmEngine(
        pool,
        backend.call_workers,
        dtype=dtype,
        on_change=backend.weights_changed,
        memory=memory,
        threads=threads,
    )
    return engine, backend


def load_vllm(
    path: str | Path,
    *,
    weights: bool = True,
    dtype: str = "bfloat16",
    batch_size: int = 512,
    max_length: int | None = None,
    memory_share: float = 0.85,
    cache_gib: float | None = None,
    tensor_parallel: int = 1,
    own_process: bool = False,
    **options: Any,
) -> "VllmBackend":
    """Start vLLM with the model of a local directory: safetensors only, no remote code.

    Args:
        path: the directory.
        weights: false: it holds none, and the model's are arbitrary.
        dtype: float32, bfloat16 or float16.
        batch_size: requests that are given to the engine together.
        max_length: the context in tokens; None: the model's own.
        memory_share: the share of a GPU's memory that vLLM may take, for weights, cache and all.
        cache_gib: GiB for keys and values; None: what the share leaves on a GPU, 2 on a CPU.
        tensor_parallel: over how many devices the model is spread.
        own_process: run the engine in a process of its own, which lets it overlap with this one. Then the shape of its
            batches depends on timing, and so now and then does a token.
        options: more of vLLM's engine arguments, as plain data (`quantization`, `max_num_seqs`, `enforce_eager`, ...).

    Raises `UsageError` if vLLM is not there or refuses the arguments, `WorkError` if it does not start.
    """
    if importlib.util.find_spec("vllm") is None:
        raise UsageError("the vllm back end needs vLLM; install it with: pip install 'evomerge[vllm]'")
    if "VLLM_LOGGING_LEVEL" not in os.environ:  # which vLLM heeds only after its first words
        logging.getLogger("vllm").setLevel(logging.ERROR)
    with _environment({"VLLM_ENABLE_V1_MULTIPROCESSING": str(int(own_process))}):
        from vllm.engine.arg_utils import EngineArgs
        from vllm.platforms import current_platform

        from evomerge.evaluation.vllm.backend import VllmBackend

        options.pop("threads", None)  # where nothing is merged, they have nothing to do
        theirs = {field.name for field in fields(EngineArgs)} - _OURS
        refuse_unknown(options, [*theirs, *_OWN], "evaluation.vllm")
        on_cpu = current_platform.is_cpu()
        if cache_gib is None and on_cpu:
            cache_gib = _CACHE_GIB_ON_CPU
        arguments: dict[str, Any] = {
            "worker_extension_cls": _WORKER,
            "load_format": "safetensors" if weights else "dummy",
            "gpu_memory_utilization": memory_share,
            "kv_cache_memory_bytes": None if cache_gib is None else int(cache_gib * 2**30),
            "enforce_eager": on_cpu,  # compiling pays on a GPU
            "use_tqdm_on_load": False,
        }
        try:
            with _alone():
                return VllmBackend(
                    path,
                    dtype=dtype,
                    batch_size=batch_size,
                    max_length=max_length,
                    tensor_parallel=tensor_parallel,
                    options=options,
                    arguments=arguments,
                )
        except ValueError as error:  # among them those of vLLM's own checks
            raise UsageError(f"vLLM refuses model {path}: {_line(error)}") from None
        except (RuntimeError, OSError) as error:
            raise WorkError(f"vLLM does not start with model {path}: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:400] or type(error).__name__


@contextmanager
def _environment(needed: dict[str, str]) -> Iterator[None]:
    """Set the variables that vLLM and its processes read when they start; at the end all are as they were."""
    before = dict(os.environ)
    os.environ.update({**_ENVIRONMENT, **before, **needed})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _alone() -> Iterator[None]:
    """Let vLLM start as if nothing but vLLM were here.

    Its processes would import the main script again, with all that it imports, and run it where it has no guard.
    And vLLM for CPUs looks into all modules of its process, and stumbles over an object of llvmlite's (on which numba
    is built) that claims to have every attribute.
    """
    main, stumbling = sys.modules["__main__"], "llvmlite.binding.ffi"
    script, spec, module = main.__dict__.pop("__file__", None), main.__spec__, sys.modules.pop(stumbling, None)
    main.__spec__ = None
    try:
        yield
    finally:
        main.__spec__ = spec
        if script is not None:
            main.__file__ = script
        if module is not None:
            sys.modules[stumbling] = module
