"""One side of bench_evolve.py: a search in a process of its own, with a clock in it.

    CLOCK=FILE python bench_evolve_side.py evomerge search ...            # any arguments of evomerge's command line
    CLOCK=FILE python bench_evolve_side.py mergekit GENOME.yaml ...       # any arguments of mergekit-evolve

Writes a line of JSON to the file for each candidate that has been scored: when, and how many seconds of all that has
passed since the one before went into what. Runs in two environments, so it imports nothing but the standard library
until it knows which. What it changes in mergekit 0.1.5 so that it runs at all, while it runs:

    lm_eval.models.vllm_causallms.VLLM exists     mergekit's import asks for it, also where vLLM is not used
    a GPU that Ray is told of, and is not there   its workers ask for one
    torch.cpu.empty_cache exists                  the worker that writes to the disk calls it
    lm-eval's HFLM is put on the CPU              mergekit names no device
    the type of ReturnTensor.tensor_task          `--in-memory` fails without it, on any hardware
    CLOCK_BATCH: HFLM's batch size in memory      mergekit drops `--batch-size` there and scores one item at a time
"""

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


class Clock:
    """Seconds by what they went into; what is inside of something else does not count for that."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = defaultdict(float)
        self._stack = ["rest"]
        self._since = time.perf_counter()
        self._since_processor = time.process_time()

    def _book(self) -> None:
        now = time.perf_counter()
        self._seconds[self._stack[-1]] += now - self._since
        self._since = now

    def enter(self, what: str) -> None:
        """Count for `what` from now on."""
        self._book()
        self._stack.append(what)

    def leave(self, what: str) -> None:
        """Count for what was before `what`, if that was entered."""
        self._book()
        if self._stack[-1] == what:
            self._stack.pop()

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Count for `what` inside."""
        self.enter(what)
        try:
            yield
        finally:
            self.leave(what)

    def candidate(self, **facts: Any) -> None:
        """Write what has been counted since the last candidate, and begin anew."""
        self._book()
        processor = time.process_time()
        line = {"at": time.time(), **facts, "processor": processor - self._since_processor, "parts": self._seconds}
        with Path(os.environ["CLOCK"]).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._seconds = defaultdict(float)
        self._since_processor = processor


CLOCK = Clock()


def clocked(owner: Any, name: str, what: str) -> None:
    """Count the time of a function for `what`; of one that yields, the time until each part is there."""
    function = getattr(owner, name)

    def run(*args: Any, **options: Any) -> Any:
        with CLOCK.on(what):
            result = function(*args, **options)
        return parts(result) if hasattr(result, "__next__") else result

    def parts(found: Any) -> Iterator[Any]:
        end = object()
        try:
            while True:
                with CLOCK.on(what):
                    part = next(found, end)
                if part is end:
                    return
                yield part
        finally:
            found.close()

    setattr(owner, name, run)


# ---- evomerge --------------------------------------------------------------------------------------------------------


def run_evomerge(arguments: list[str]) -> None:
    """Put clocks into evomerge and run its command line."""
    from evomerge.cli import main
    from evomerge.evaluation.backend import TransformersBackend
    from evomerge.evaluation.sandbox import Sandbox
    from evomerge.evaluation.store import OutcomeStore
    from evomerge.evaluation.tasks import EvalTask
    from evomerge.merging import MergeEngine
    from evomerge.optimizers.cmaes import CmaEs
    from evomerge.search.ledger import Ledger
    from evomerge.search.loop import Search
    from evomerge.search.observers import Observers
    from evomerge.search.track import Track

    clocked(MergeEngine, "apply", "merging")
    clocked(TransformersBackend, "batches", "generating")
    clocked(TransformersBackend, "respond", "generating")
    clocked(Sandbox, "run", "running code")
    clocked(EvalTask, "requests", "tasks and scores")
    clocked(EvalTask, "outcomes", "tasks and scores")
    for name in ("add", "begin", "get", "response", "open_batches"):
        clocked(OutcomeStore, name, "outcome store")
    for name in ("append", "sync"):
        clocked(Ledger, name, "ledger")
    clocked(Observers, "__call__", "log, status, mirror")
    for name in ("ask", "tell"):
        clocked(CmaEs, name, "optimizer")
    for name in ("__init__", "take", "scores"):
        clocked(Track, name, "race")

    tell = Search._tell

    def told(search: Search, job: Any, outcome: Any) -> None:
        tell(search, job, outcome)
        trial = search.record.trials[job.number]
        if job.split == "search" and trial.kind == "candidate":
            CLOCK.candidate(items=sum(score.items for score in trial.scores.get("search", {}).values()))

    Search._tell = told  # type: ignore[method-assign, assignment]
    sys.argv = ["evomerge", *arguments]
    main()


# ---- mergekit-evolve -------------------------------------------------------------------------------------------------


def in_worker() -> None:
    """Mend and clock mergekit in this process; Ray calls it in each of its own."""
    import lm_eval.models
    import torch
    from lm_eval.models.huggingface import HFLM

    stub: Any = ModuleType("lm_eval.models.vllm_causallms")
    stub.VLLM = type("VLLM", (), {})
    sys.modules[stub.__name__] = stub
    lm_eval.models.vllm_causallms = stub
    if not hasattr(torch.cpu, "empty_cache"):
        setattr(torch.cpu, "empty_cache", lambda: None)  # noqa: B010

    init = HFLM.__init__

    def on_cpu(self: Any, pretrained: Any, **options: Any) -> None:
        if not isinstance(pretrained, str) and "CLOCK_BATCH" in os.environ:
            options["batch_size"] = int(os.environ["CLOCK_BATCH"])
        init(self, pretrained, **{**options, "device": "cpu"})

    HFLM.__init__ = on_cpu

    from mergekit.evo.genome import ModelGenome
    from mergekit.graph import Task
    from mergekit.io.tasks import ReturnTensor

    ReturnTensor.model_fields["tensor_task"].annotation = Task
    ReturnTensor.model_rebuild(force=True)

    clocked(HFLM, "__init__", "loading the model")
    clocked(HFLM, "generate_until", "generating")
    from evomerge.evaluation.sandbox import Sandbox

    clocked(Sandbox, "run", "running code")
    begin_merge(ModelGenome)
    end_merge(lm_eval)


def begin_merge(genome: Any) -> None:
    """Let merging begin where a genotype becomes a configuration."""
    decode: Callable[..., Any] = genome.genotype_merge_config

    def decoded(*args: Any, **options: Any) -> Any:
        CLOCK.enter("merging")
        return decode(*args, **options)

    genome.genotype_merge_config = decoded


def end_merge(lm_eval: Any) -> None:
    """Let merging end, and a candidate be done, where lm-eval begins and ends."""
    evaluate: Callable[..., Any] = lm_eval.simple_evaluate

    def evaluated(*args: Any, **options: Any) -> Any:
        CLOCK.leave("merging")
        with CLOCK.on("tasks and scores"):
            results = evaluate(*args, **options)
        CLOCK.candidate(
            items=sum(count["effective"] for count in results["n-samples"].values()), results=results["results"]
        )
        return results

    lm_eval.simple_evaluate = evaluated


def run_mergekit(arguments: list[str]) -> None:
    """Mend mergekit and run mergekit-evolve, its workers with the same mends."""
    import bench_evolve_side as side  # by its name, which Ray's workers import too
    import ray

    side.in_worker()
    hook = "bench_evolve_side.in_worker"
    ray.init("local", num_gpus=1, include_dashboard=False, runtime_env={"worker_process_setup_hook": hook})
    from mergekit.scripts.evolve import main

    main(arguments, standalone_mode=False)


if __name__ == "__main__":
    {"evomerge": run_evomerge, "mergekit": run_mergekit}[sys.argv[1]](sys.argv[2:])
