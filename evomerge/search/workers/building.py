"""Builds what scores, where a worker lives: in the process of the search from what is open there, in another from the
configuration alone.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from socket import gethostname
from typing import Any

from evomerge.checkpoints import ModelPool
from evomerge.cli.quiet import quiet
from evomerge.errors import UsageError
from evomerge.evaluation import EvalTask, Evaluator, OutcomeStore, TransformersBackend
from evomerge.search.config import SearchConfig
from evomerge.search.opening import open_pool, open_tasks
from evomerge.search.scorer import Engine, load_scorer, start_sandbox
from evomerge.search.workers.base import Job, Scored


class ModelScorer:
    """Builds a recipe in the live model and scores it.

    Args:
        engine, evaluator: which build and score.
        shared: the evaluator's store of outcomes, if other searches write there too.
    """

    def __init__(self, engine: Engine, evaluator: Evaluator, *, shared: OutcomeStore | None = None) -> None:
        self.engine, self.evaluator, self.shared = engine, evaluator, shared

    @property
    def settings(self) -> Mapping[str, Any]:
        """What shapes an answer besides weights and prompts, as plain data."""
        return self.evaluator.backend.settings

    def __call__(self, job: Job) -> Scored:
        """Score one job; `CandidateError` if the candidate cannot be built or scored."""
        start = time.monotonic()
        if isinstance(self.evaluator.backend, TransformersBackend):  # vLLM has set its memory apart before it begins
            self.evaluator.backend.sparing = job.sparing
        applied = self.engine.apply(job.recipe)
        # Outcomes are kept under the weights' fingerprint, not the recipe's hash: a model file that changed under the
        # same name gives other weights, and so never finds outcomes that are not its own.
        key = applied.fingerprint
        if self.shared is not None:
            self.shared.look_again(key)
        outcomes = {task: self.evaluator.score(task, items, key) for task, items in job.items.items()}
        return Scored(applied.fingerprint, outcomes, time.monotonic() - start)


@dataclass(frozen=True)
class Here:
    """Builds a scorer in this process.

    Attributes:
        config: of the search.
        pool, tasks: what it names.
        store: of outcomes.
        batching: the shape of batches that scores are to be made with, as plain data; None: as the device allows.
    """

    config: SearchConfig
    pool: ModelPool
    tasks: Mapping[str, EvalTask]
    store: OutcomeStore
    batching: Mapping[str, Any] | None

    def __call__(self, device: str, say: Callable[[str], None]) -> ModelScorer:
        """Build the scorer on a device; the sandbox is there before a model is loaded."""
        confined = start_sandbox(self.tasks.values(), self.config.evaluation)
        if confined is not None:
            say(f"sandbox: {confined}")
        engine, evaluator = load_scorer(
            *(self.pool, self.tasks, self.config.evaluation, device, self.store),
            memory=self.config.workers.memory,
            batching=self.batching,
            say=say,
        )
        return ModelScorer(engine, evaluator, shared=self.store if self.config.evaluation.outcomes else None)

    def alike(self, settings: Mapping[str, Any]) -> "Here":
        """Return the same with the shape of batches that is in the settings."""
        return replace(self, batching=settings.get("batching"))


@dataclass(frozen=True)
class Elsewhere:
    """Builds a scorer in another process, to which this is sent.

    Attributes:
        config: of the search.
        outcomes: folder of the outcome store.
        inherited: folders of other runs' outcomes.
        batching: as of `Here`.
    """

    config: SearchConfig
    outcomes: Path
    inherited: tuple[Path, ...]
    batching: Mapping[str, Any] | None

    def __call__(self, device: str, say: Callable[[str], None]) -> ModelScorer:
        """Open models, tasks and store, and build the scorer; `UsageError` if its host does not see the run."""
        if self.config.evaluation.outcomes is None and not self.outcomes.parent.is_dir():
            raise UsageError(f"{self.outcomes.parent}: {gethostname()} does not see it; search where all hosts do")
        quiet()
        pool = open_pool(self.config, check_weights=False)  # the search has checked them
        tasks, _ = open_tasks(self.config, pool)
        store = OutcomeStore(self.outcomes, read_also=self.inherited)
        return Here(self.config, pool, tasks, store, self.batching)(device, say)

    def alike(self, settings: Mapping[str, Any]) -> "Elsewhere":
        """Return the same with the shape of batches that is in the settings."""
        return replace(self, batching=settings.get("batching"))
