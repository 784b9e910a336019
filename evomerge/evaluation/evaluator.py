"""Score a model on items of tasks, one outcome an item; what the store knows is never generated again.

Outcomes are stored as their answers end, while the rest of a batch goes on, so that a kill loses nothing that was
finished, and a race may stop a candidate early. A batch that was begun and not ended is made again in its old shape,
since rounding, and so now and then a token, depends on it: a search that was killed goes on with the very bits of an
undisturbed one. This file knows nothing about how the model was merged.
"""

import hashlib
import json
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import closing
from typing import Any, Protocol

from lm_eval.api.instance import Instance

from evomerge.errors import UsageError, nearest
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.store import OutcomeStore
from evomerge.evaluation.tasks import EvalTask
from evomerge.evaluation.types import Outcome, Response, text_to_responses

#: Answers are scored and stored together that end within so many seconds: a write to the disk takes a while.
GATHER_SECONDS = 0.5


class Backend(Protocol):
    """What the evaluator needs of what answers prompts. It is an lm-eval language model too."""

    @property
    def settings(self) -> dict[str, Any]:
        """What shapes an answer besides weights, prompt and generation options, as plain data.

        Under `batching` the shape of batches, which decides only the last bits.
        """

    def weights_changed(self) -> None:
        """Forget everything that depends on the weights; to be called after each change."""

    def batches(self, requests: Sequence[Instance], prefix: str = "") -> list[list[int]]:
        """Cut requests into batches, in the order to run them: a function of the requests alone."""

    def respond(self, requests: Sequence[Instance], prefix: str = "") -> Iterator[list[tuple[int, Response]]]:
        """Answer one batch; yields (index, response) pairs as they are done, and stops when it is closed.

        `prefix` is what many of the prompts begin with: a hint, no promise.
        """


class Evaluator:
    """Scores the model in a back end.

    Args:
        tasks: task name -> task.
        backend: what answers prompts.
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
        """Score the model on items of a task; returns one outcome an item, in the order of `items`.

        See `outcomes` for the arguments.
        """
        with undisturbed():
            found = {outcome.item: outcome for part in self.outcomes(task_name, items, key) for outcome in part}
        return [found[item] for item in items]

    def outcomes(self, task_name: str, items: Sequence[str], key: str) -> Iterator[list[Outcome]]:
        """Score the model on items of a task, and yield outcomes as answers end: what is known first.

        Each outcome is in the store before it is yielded. Closing the iterator ends the work; the prompts of an item
        are the same in any subset and order.

        Args:
            task_name: which task.
            items: item ids, in any order.
            key: names the model's weights (their fingerprint), for the store.

        Raises `UsageError` for an unknown task or item.
        """
        if task_name not in self.tasks:
            raise UsageError(f"unknown task {task_name!r}; {nearest(task_name, self.tasks)}")
        work = _Work(self.tasks[task_name], self.backend, self.store, key)
        with undisturbed():
            requests = work.task.requests(items)
            known = work.known(requests)
        if known:
            yield known
        missing = requests.keys() - {outcome.item for outcome in known}
        for batch in work.batches(requests, missing):
            yield from work.run({item: requests[item] for item in batch}, missing)


class _Work:
    """The scoring of one model on one task."""

    def __init__(self, task: EvalTask, backend: Backend, store: OutcomeStore | None, key: str) -> None:
        self.task, self._backend, self._store, self._key = task, backend, store, key
        # Not the shape of batches: it decides only between tokens that are equally likely, and a run keeps its own.
        settings = {key: value for key, value in backend.settings.items() if key != "batching"}
        self._generation = _digest([task.generation_settings, settings])
        self._likelihood = task.generation_settings["request"] != "generate_until"

    def known(self, items: Iterable[str]) -> list[Outcome]:
        """Return the outcomes that the store has, or that can be scored from answers it has."""
        if self._store is None:
            return []
        found, answered = [], []
        for item in items:
            prompt, scoring = self.task.prompt_hash(item), self.task.scoring_settings
            outcome = self._store.get(self._key, self._generation, scoring, self.task.name, item, prompt)
            if outcome is not None:
                found.append(outcome)
                continue
            outcome = self._store.response(self._key, self._generation, prompt)
            if outcome is not None:
                answered.append((item, text_to_responses(outcome, likelihood=self._likelihood)))
        return found + self._take(answered)

    def batches(self, requests: Mapping[str, list[Instance]], missing: Set[str]) -> Iterator[list[str]]:
        """Yield the items of each batch to be answered; first those that a kill left open, with all their items."""
        left = set(missing)
        if self._store is not None:
            by_prompt = {self.task.prompt_hash(item): item for item in requests}
            for prompts in self._store.open_batches(self._key, self._generation):
                if all(prompt in by_prompt for prompt in prompts):
                    batch = [by_prompt[prompt] for prompt in prompts]
                    if not left.isdisjoint(batch):
                        left -= set(batch)
                        yield batch
        items = [item for item in requests if item in left]
        # An item's requests (the choices of a question) are answered in one batch: its longest stands for it.
        longest = [max(requests[item], key=_length) for item in items]
        with undisturbed():
            cuts = self._backend.batches(longest, self.task.prefix)
        for indices in cuts:
            batch = [items[index] for index in indices]
            if self._store is not None:
                self._store.begin(self._key, self._generation, [self.task.prompt_hash(item) for item in batch])
            yield batch

    def run(self, batch: Mapping[str, list[Instance]], missing: Set[str]) -> Iterator[list[Outcome]]:
        """Answer one batch and yield the outcomes of those of its items that are missing."""
        requests = [(item, number) for item, asked in batch.items() for number in range(len(asked))]
        found: dict[str, dict[int, Response]] = {item: {} for item in batch}
        ready: list[tuple[str, list[Response]]] = []
        written = time.monotonic()
        parts = self._respond([batch[item][number] for item, number in requests])
        with closing(parts):
            for part in parts:
                for index, response in part:
                    item, number = requests[index]
                    found[item][number] = response
                    if len(found[item]) == len(batch[item]) and item in missing:
                        ready.append((item, [found[item][place] for place in range(len(batch[item]))]))
                if ready and time.monotonic() - written >= GATHER_SECONDS:
                    yield self._take(ready)
                    ready, written = [], time.monotonic()
        if ready:
            yield self._take(ready)

    def _respond(self, requests: Sequence[Instance]) -> Generator[list[tuple[int, Response]]]:
        """The back end's answers, its libraries silenced while they are made but not while they are used."""
        parts = self._backend.respond(requests, self.task.prefix)
        try:
            while True:
                with undisturbed():
                    part = next(parts, None)
                if part is None:
                    return
                yield part
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    def _take(self, answers: Sequence[tuple[str, Sequence[Response]]]) -> list[Outcome]:
        """Score answers and store their outcomes."""
        if not answers:
            return []
        with undisturbed():
            outcomes = self.task.outcomes(answers)
        if self._store is not None:
            self._store.add(self._key, self._generation, self.task.scoring_settings, outcomes)
        return outcomes


def _length(request: Instance) -> int:
    return sum(len(part) for part in request.args if isinstance(part, str))


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
