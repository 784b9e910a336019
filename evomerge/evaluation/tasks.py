"""Tasks as the search sees them: items divided into splits, frozen prompts, and scores item by item.

An `EvalTask` wraps a task object of lm-eval: templates, filters and metrics are lm-eval's. Two things are ours.

Splits. Every item has a place in [0, 1), a hash of the split seed, the lm-eval task's name and the item's id. A
dataset split that feeds several of search, selection and report is divided between them by that place, in equal
parts; and the items of a split come in the order of their hashes, so that the first n are a random subset which grows
with n.

Prompts. lm-eval draws few-shot examples from one generator in the order of the documents, so that a document's prompt
depends on which others are scored. Here a prompt is a function of its item alone:
- on the report split, where it is fed by the data that lm-eval itself evaluates on, it is exactly the prompt of
  lm-eval's command line with its default seed: the draws are made once, in document order, for all documents;
- elsewhere the examples are drawn by a generator seeded with the item's hash, from a pool of items that are never
  scored: the task's few-shot split, or, if search or selection use that split too, the items of it whose place is
  below 0.05, which are then left out of all splits.

This file knows nothing about models.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.instance import Instance

from evomerge.errors import UsageError, WorkError, nearest
from evomerge.evaluation.library import build, find_yaml
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.spec import TaskSpec
from evomerge.evaluation.types import SPLITS, Generation, Outcome, Split

POOL_SHARE = 0.05  # of a dataset split that is both scored and a source of examples
HARNESS_SEED = 1234  # of lm-eval's few-shot draws
STRICT, FLEXIBLE = "strict-match", "flexible-extract"

Doc = dict[str, Any]


class EvalTask:
    """One task, ready to be scored.

    Args:
        spec: what the user wrote.
        split_seed: seed of the division of items.

    Attributes:
        name: the task's name.
        metric: the metric that is the score.
        filter: the filter that extracts the answer.
        higher_is_better: whether larger values of the metric are better (scores are turned so that larger is better).
        unsafe_code: scoring runs code that the model wrote.
        settings: hash of all that shapes an answer and its score, apart from the model and the prompt.

    Raises `UsageError` for anything in the spec that the task does not have.
    """

    def __init__(self, spec: TaskSpec, *, split_seed: int = 0) -> None:
        self.name, self._spec, self._seed = spec.name, spec, split_seed
        with undisturbed():
            self._task = build(spec)
        config = self._task.config
        self._where = f"task {spec.name}"
        directions: dict[str, bool] = self._task.higher_is_better()
        self.metric = self._choose("metric", spec.metric, list(directions))
        self.higher_is_better = bool(directions[self.metric])
        filters = [ensemble.name for ensemble in self._task._filters]
        self.filter = self._choose("filter", spec.filter, filters)
        self._scored_filters = {self.filter, *((STRICT, FLEXIBLE) if {STRICT, FLEXIBLE} <= set(filters) else ())}
        self.unsafe_code = bool(config.unsafe_code)
        self.generation: dict[str, Any] = dict(config.generation_kwargs)
        if self.generation.get("do_sample") or config.repeats != 1:
            raise UsageError(f"{self._where}: it samples answers; only greedy generation, once an item, can be scored")
        self._shots = int(config.num_fewshot or 0)
        self._sources = self._find_sources()
        self._pool_split = self._find_pool()
        self._reserves = self._pool_split in {*self._sources["search"], *self._sources["selection"]}
        self._requests: dict[str, Instance] = {}
        scoring = [config.filter_list, config.metric_list, config.doc_to_target, config.process_results]
        self.settings = _digest([self.metric, self.filter, self.generation, scoring])

    # -- items ---------------------------------------------------------------------------------------------------------

    def items(self, split: Split, *, in_file_order: bool = False) -> tuple[str, ...]:
        """Return the ids of a split's items, in the order of their hashes or of the data files.

        Raises `UsageError` if nothing feeds the split.
        """
        if not self._sources[split]:
            raise UsageError(
                f"{self._where}: no data are named for the {split} split; set splits.{split} to one of "
                + ", ".join(sorted(self._task.dataset))
            )
        return self._divided[split] if not in_file_order else tuple(sorted(self._divided[split], key=self._file_order))

    @cached_property
    def _divided(self) -> dict[Split, tuple[str, ...]]:
        """Every split's items, in the order of their hashes."""
        result: dict[Split, list[tuple[float, str]]] = {split: [] for split in SPLITS}
        for source in dict.fromkeys(source for split in SPLITS for source in self._sources[split]):
            sharers = [split for split in SPLITS if source in self._sources[split]]
            reserved = POOL_SHARE if self._reserves and source == self._pool_split else 0.0
            for index in range(len(self._docs(source))):
                item = f"{source}:{index}"
                place = self._place(item)
                if place >= reserved:
                    share = (place - reserved) / (1 - reserved)
                    result[sharers[int(share * len(sharers))]].append((place, item))
        return {split: tuple(item for _, item in sorted(rows)) for split, rows in result.items()}

    def _place(self, item: str) -> float:
        return int.from_bytes(self._hash(item)[:6]) / 2**48

    def _hash(self, item: str) -> bytes:
        return hashlib.sha256(f"{self._seed}/{self._task.config.task}/{item}".encode()).digest()

    def _file_order(self, item: str) -> tuple[int, int]:
        source, _, index = item.rpartition(":")
        return list(self._task.dataset).index(source), int(index)

    def _doc(self, item: str) -> Doc:
        source, _, index = item.rpartition(":")
        if source not in self._task.dataset or not index.isdigit() or int(index) >= len(self._docs(source)):
            raise UsageError(f"{self._where}: there is no item {item!r}")
        return dict(self._docs(source)[int(index)])

    def _docs(self, source: str) -> Sequence[Doc]:
        """The documents of a dataset split as the task sees them."""
        if source not in self._processed:
            process = self._task.config.process_docs
            rows = self._task.dataset[source]
            with undisturbed():
                self._processed[source] = process(rows) if process is not None else rows
        return self._processed[source]

    @cached_property
    def _processed(self) -> dict[str, Sequence[Doc]]:
        return {}

    def _find_sources(self) -> dict[Split, tuple[str, ...]]:
        """Split -> the dataset splits that feed it."""
        config, chosen = self._task.config, self._spec.splits
        evaluated = config.test_split or config.validation_split
        if not chosen:
            others = [s for s in (config.training_split, config.validation_split) if s and s != evaluated]
            chosen = {"search": tuple(others), "selection": tuple(others), "report": (evaluated,)}
        known = list(self._task.dataset)
        for split, sources in chosen.items():
            for source in sources:
                if source not in known:
                    raise UsageError(
                        f"{self._where}, splits.{split}: no dataset split {source!r}; {nearest(source, known)}"
                    )
        return {split: tuple(chosen.get(split, ())) for split in SPLITS}

    # -- prompts -------------------------------------------------------------------------------------------------------

    def requests(self, items: Sequence[str]) -> dict[str, Instance]:
        """Return the frozen request of each item, item id -> instance, in the order given; not to be changed."""
        missing = [item for item in items if item not in self._requests]
        if missing:
            with undisturbed():
                for item in missing:
                    self._requests[item] = self._build_request(item)
        return {item: self._requests[item] for item in items}

    def prompt(self, item: str) -> str:
        """Return the prompt of an item."""
        return str(self.requests([item])[item].args[0])

    def prompt_hash(self, item: str) -> str:
        """Return 16 hexadecimal digits of SHA-256 of the prompt of an item."""
        return hashlib.sha256(self.prompt(item).encode()).hexdigest()[:16]

    def _build_request(self, item: str) -> Instance:
        task, doc = self._task, self._doc(item)
        if self._shots:
            drawn, task.sampler = task.sampler, _Given(self._examples(item, doc))
        try:
            context = task.fewshot_context(doc, num_fewshot=self._shots, gen_prefix=task.doc_to_prefix(doc))
        finally:
            if self._shots:
                task.sampler = drawn
        if not isinstance(context, str):
            raise UsageError(f"{self._where}: it has several prompts an item and cannot be scored")
        index = int(item.rpartition(":")[2])
        request: Instance = task.construct_requests(doc=doc, ctx=context, metadata=(task.config.task, index, 1))
        return request

    def _examples(self, item: str, doc: Doc) -> list[Doc]:
        """The few-shot examples in the prompt of an item."""
        source, _, index = item.rpartition(":")
        config = self._task.config
        if source == (config.test_split or config.validation_split) and item in self._report_items:
            return self._harness_examples[int(index)]
        sampler = type(self._task.sampler)(self._pool, rnd=int.from_bytes(self._hash(f"examples/{item}")[:8]))
        return list(sampler.sample(n=self._shots, eval_doc=doc if doc in self._pool else None))

    @cached_property
    def _report_items(self) -> frozenset[str]:
        return frozenset(self._divided["report"])

    @cached_property
    def _harness_examples(self) -> list[list[Doc]]:
        """The examples that lm-eval's command line draws, document by document."""
        task = self._task
        task.set_fewshot_seed(HARNESS_SEED)
        same = task.fewshot_cfg.split == task.config.test_split
        return [list(task.sampler.sample(n=self._shots, eval_doc=doc if same else None)) for doc in task.eval_docs]

    @cached_property
    def _pool(self) -> list[Doc]:
        """The items that serve as examples outside the harness's own draws."""
        if self._pool_split is None or (not self._reserves and self._spec.fewshot is None):
            return list(self._task.sampler.df)
        docs = self._docs(self._pool_split)
        kept = [
            i for i in range(len(docs)) if not self._reserves or self._place(f"{self._pool_split}:{i}") < POOL_SHARE
        ]
        return [dict(docs[i]) for i in kept]

    def _find_pool(self) -> str | None:
        """The dataset split that examples come from; None if there are none, or fixed ones."""
        if not self._shots:
            return None
        task, config = self._task, self._task.config
        if not hasattr(task, "sampler"):
            raise UsageError(f"{self._where}: num_fewshot is {self._shots}, but the task has no examples")
        split = self._spec.fewshot or task.fewshot_cfg.split
        if split is None and task.fewshot_cfg.samples is None:
            split = config.training_split or config.validation_split or config.test_split
        if split is not None and split not in self._task.dataset:
            raise UsageError(
                f"{self._where}, fewshot: no dataset split {split!r}; {nearest(split, self._task.dataset)}"
            )
        return split

    # -- scores --------------------------------------------------------------------------------------------------------

    def outcomes(self, answers: Sequence[tuple[str, Generation]]) -> list[Outcome]:
        """Score answers, given as (item id, generation), by the task's own filters and metrics.

        Raises `UsageError` if the metric has no value for a single item, `WorkError` if that is not finite.
        """
        requests = self.requests([item for item, _ in answers])
        instances = [
            dataclasses.replace(requests[item], resps=[answer.text], filtered_resps={}) for item, answer in answers
        ]
        with undisturbed():
            for ensemble in self._task._filters:
                if ensemble.name in self._scored_filters:
                    ensemble.apply(instances)
            scores = [{name: self._score(inst, name) for name in self._scored_filters} for inst in instances]
        return [
            Outcome(
                task=self.name,
                item=item,
                score=by_filter[self.filter],
                tokens=answer.tokens,
                truncated=answer.truncated,
                answer=answer.text,
                prompt_hash=self.prompt_hash(item),
                strict=by_filter.get(STRICT) if FLEXIBLE in by_filter else None,
                flexible=by_filter.get(FLEXIBLE) if STRICT in by_filter else None,
            )
            for (item, answer), by_filter in zip(answers, scores, strict=True)
        ]

    def _score(self, instance: Instance, name: str) -> float:
        metrics = self._task.process_results(instance.doc, [instance.filtered_resps[name]])
        value = metrics.get(self.metric)
        try:
            score = float(value)
        except (TypeError, ValueError):
            raise UsageError(f"{self._where}: metric {self.metric!r} has no value for a single item") from None
        if not math.isfinite(score):
            raise WorkError(f"{self._where}: metric {self.metric!r} is {score} for document {instance.doc_id}")
        return score if self.higher_is_better else 0.0 - score  # not -score: no negative zero

    def _choose(self, kind: str, wanted: str | None, known: list[str]) -> str:
        if wanted is not None and wanted not in known:
            raise UsageError(f"{self._where}: no {kind} {wanted!r}; {nearest(wanted, known)}")
        return wanted or known[0]


class _Given:
    """In the place of lm-eval's sampler: the examples that were chosen before."""

    def __init__(self, examples: list[Doc]) -> None:
        self._examples = examples

    def sample(self, n: int, eval_doc: Doc | None = None) -> list[Doc]:
        assert n == len(self._examples)
        return self._examples


def load_tasks(
    config: Mapping[str, Mapping[str, Any]], *, split_seed: int = 0, data: Mapping[str, str] | None = None
) -> dict[str, EvalTask]:
    """Load tasks from plain data (task name -> the keys of `TaskSpec`).

    Args:
        config: the tasks.
        split_seed: seed of the division of items.
        data: local files in place of data sets, `task.split` -> path (or `task` -> path), on top of the configuration.

    Raises `UsageError` for the first thing that is wrong.
    """
    settings = {name: dict(values) if isinstance(values, Mapping) else values for name, values in config.items()}
    for place, path in (data or {}).items():
        name, _, split = place.partition(".")
        if name not in settings:
            raise UsageError(f"data for {place!r}: no such task; {nearest(name, settings)}")
        old = settings[name].get("data_files")
        settings[name]["data_files"] = {**(old if isinstance(old, Mapping) else {}), split: path} if split else path
    specs = [TaskSpec.from_dict(name, values) for name, values in settings.items()]
    return {spec.name: EvalTask(spec, split_seed=split_seed) for spec in specs}


def find_task_config(name: str) -> dict[str, dict[str, Any]]:
    """Return {name: keys} of a task by its name in `conf/tasks`, else of an lm-eval task or a YAML file.

    The name of a file there (zoo) stands for all tasks in it. Raises `UsageError` if there is nothing of that name.
    """
    from evomerge.config import conf_dir

    folder = conf_dir() / "tasks"
    known: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.glob("*.yaml")):
        content: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text()) or {}
        if path.stem == name and name not in content:
            return content
        known |= content
    if name in known:
        return {name: known[name]}
    path = find_yaml(name)
    label = name if Path(name).suffix not in (".yaml", ".yml") else path.stem
    return {label: {"task": name}}


def _digest(data: Any) -> str:
    text = json.dumps(data, sort_keys=True, default=lambda value: getattr(value, "__qualname__", str(type(value))))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
