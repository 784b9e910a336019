"""Score a model on items of tasks, one outcome an item; what the store knows is not generated again.

The items of a call that are not known yet are sorted and cut into batches as lm-eval does it, and each batch is
stored as a whole once it is scored. So a call that was cut off and is made again goes on with the very batches that
it would have made, and its outcomes are the same. This file knows nothing about how the model was merged.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from lm_eval.api.instance import Instance

from evomerge.errors import UsageError, nearest
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.store import OutcomeStore
from evomerge.evaluation.tasks import EvalTask
from evomerge.evaluation.types import Generation, Outcome


class Backend(Protocol):
    """What the evaluator needs of a generation back end."""

    @property
    def settings(self) -> dict[str, Any]:
        """What shapes an answer besides weights, prompt and generation options, as plain data."""

    def weights_changed(self) -> None:
        """Forget everything that depends on the weights."""

    def generate(self, requests: Sequence[Instance]) -> Iterator[list[tuple[int, Generation]]]:
        """Answer requests batch by batch; yields the (index, answer) pairs of each batch."""


class Evaluator:
    """Scores the model in a back end.

    Args:
        tasks: task name -> task.
        backend: what generates answers.
        allow_code_execution: let tasks run code that the model writes, in the sandbox.
        store: where outcomes are kept; None: nowhere.

    Raises `UsageError` if a task runs code and that is not allowed.
    """

    def __init__(
        self,
        tasks: Mapping[str, EvalTask],
        backend: Backend,
        *,
        allow_code_execution: bool = False,
        store: OutcomeStore | None = None,
    ) -> None:
        for name, task in tasks.items():
            if task.unsafe_code and not allow_code_execution:
                raise UsageError(
                    f"task {name} runs code that the model writes; allow it with allow_code_execution=true, "
                    "or leave the task out"
                )
        self.tasks, self.backend, self.store = dict(tasks), backend, store

    def score(self, task_name: str, items: Sequence[str], key: str) -> list[Outcome]:
        """Score the model on items of a task.

        Args:
            task_name: which task.
            items: item ids, in any order.
            key: names the model's weights (a recipe's hash), for the store.

        Returns one outcome an item, in the order of `items`. Raises `UsageError` for an unknown task or item.
        """
        if task_name not in self.tasks:
            raise UsageError(f"unknown task {task_name!r}; {nearest(task_name, self.tasks)}")
        task = self.tasks[task_name]
        requests = task.requests(items)
        settings = self.settings(task_name)
        known: dict[str, Outcome] = {}
        if self.store is not None:
            for item in requests:
                outcome = self.store.get(key, settings, task_name, item, task.prompt_hash(item))
                if outcome is not None:
                    known[item] = outcome
        pending = [item for item in requests if item not in known]
        with undisturbed():
            for batch in self.backend.generate([requests[item] for item in pending]):
                outcomes = task.outcomes([(pending[index], answer) for index, answer in batch])
                if self.store is not None:
                    self.store.add(key, settings, outcomes)
                known |= {outcome.item: outcome for outcome in outcomes}
        return [known[item] for item in items]

    def settings(self, task_name: str) -> str:
        """Return the hash of all that shapes a task's outcomes besides weights and prompts."""
        data = json.dumps([self.tasks[task_name].settings, self.backend.settings], sort_keys=True)
        return hashlib.sha256(data.encode()).hexdigest()[:16]
