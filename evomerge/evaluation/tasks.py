"""Tasks as the search sees them: items divided into splits, frozen prompts, and scores item by item.

An `EvalTask` wraps a task object of lm-eval, or all those of a group as one objective: templates, filters and metrics
are lm-eval's. Ours are the splits and the frozen prompts (see `part.py`) and some more metrics (see `metrics.py`). The
items of a split come in the order of their hashes, so that the first n are a random subset which grows with n.

This file knows nothing about models.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean

from evomerge.errors import CandidateError, EvomergeError, UsageError, WorkError, nearest
from evomerge.evaluation.chat import ChatTemplate
from evomerge.evaluation.library import build, find
from evomerge.evaluation.metrics import Aggregation, defined_for_one, item_score, one_line, own_metric, source_of
from evomerge.evaluation.part import Part
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.spec import TaskSpec, expand
from evomerge.evaluation.types import (
    SPLITS,
    Generation,
    Likelihood,
    Outcome,
    Response,
    Split,
    responses_to_text,
    text_to_responses,
)

STRICT, FLEXIBLE = "strict-match", "flexible-extract"
GENERATES, ROLLING = "generate_until", "loglikelihood_rolling"
PREFIX_ITEMS = 16  # whose prompts say what all prompts of a task begin with

Answers = Sequence[tuple[str, Sequence[Response]]]


class EvalTask:
    """One task, ready to be scored. Its items are `<dataset split>:<index>`, a group's `<subtask>/<split>:<index>`.

    Args:
        spec: what the user wrote.
        split_seed: seed of the division of items.
        chat: renders chats; needed where the spec asks for a chat template.

    Attributes:
        name: the task's name.
        metric: the metric that is the score.
        filter: the filter that extracts the answer; None: the whole answer is scored.
        higher_is_better: whether larger values of the metric are better (scores are turned so that larger is better).
        unsafe_code: scoring runs code that the model wrote.

    Raises `UsageError` for anything in the spec that the task does not have.
    """

    def __init__(self, spec: TaskSpec, *, split_seed: int = 0, chat: ChatTemplate | None = None) -> None:
        self.name, self._where = spec.name, f"task {spec.name}"
        self._own = own_metric(spec)
        with undisturbed():
            tasks, self._group = build(spec)
        self._parts = {
            name: Part(
                task,
                spec,
                where=self._where if self._group is None else f"{self._where}, {name}",
                split_seed=split_seed,
                chat=chat,
            )
            for name, task in tasks.items()
        }
        self._kind: str = self._same("kind of request", lambda part: part.request_type)
        if self._own is None:
            self.metric = self._choose("metric", spec.metric, lambda part: list(part.task.higher_is_better()))
            self.filter: str | None = self._choose("filter", spec.filter, lambda part: part.filters)
            self.higher_is_better = bool(
                self._same(f"direction of {self.metric}", lambda part: part.task.higher_is_better()[self.metric])
            )
            if not all(defined_for_one(self._aggregation(part)) for part in self._parts.values()):
                raise UsageError(
                    f"{self._where}: metric {self.metric!r} is undefined for a single item; choose another, as in acc"
                )
        elif self._kind != GENERATES:
            raise UsageError(f"{self._where}: metric {spec.metric} judges answers, but the task generates none")
        else:
            self.metric, self.higher_is_better = str(spec.metric), self._own.higher_is_better
            self.filter = spec.filter and self._choose("filter", spec.filter, lambda part: part.filters)
        self.unsafe_code = self.filter is not None and any(p.task.config.unsafe_code for p in self._parts.values())
        self._both_filters = self._own is None and all({STRICT, FLEXIBLE} <= {*p.filters} for p in self._parts.values())
        self._requests: dict[str, list[Instance]] = {}
        self._hashes: dict[str, str] = {}

    def _same(self, what: str, of: Callable[[Part], Any]) -> Any:
        """Return what all parts have in common; `UsageError` if they differ."""
        values = {name: of(part) for name, part in self._parts.items()}
        first, *others = values
        for name in others:
            if values[name] != values[first]:
                raise UsageError(
                    f"{self._where}: {first!r} and {name!r} of the group differ in their {what} "
                    f"({values[first]} and {values[name]}) and are no one objective; name tasks of one kind"
                )
        return values[first]

    def _choose(self, kind: str, wanted: str | None, of: Callable[[Part], list[str]]) -> str:
        """Return the wanted metric or filter, else the first; `UsageError` if a part does not have it."""
        chosen = wanted or of(next(iter(self._parts.values())))[0]
        for name, part in self._parts.items():
            if chosen not in of(part):
                inside = "" if self._group is None else f", {name}"
                raise UsageError(f"{self._where}{inside}: no {kind} {chosen!r}; {nearest(chosen, of(part))}")
        return chosen

    # -- items ---------------------------------------------------------------------------------------------------------

    def items(self, split: Split, *, in_file_order: bool = False) -> tuple[str, ...]:
        """Return the ids of a split's items, in the order of their hashes or of the data files.

        Raises `UsageError` if nothing feeds the split.
        """
        rows = self._placed(split)
        if not rows:
            for part in self._parts.values():
                part.require(split)
        items = [item for _, item in rows]
        return tuple(sorted(items, key=self._file_order) if in_file_order else items)

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits that have items."""
        return tuple(split for split in SPLITS if any(part.divided[split] for part in self._parts.values()))

    def _placed(self, split: Split) -> list[tuple[float, str]]:
        """A split's items with their places, by place."""
        return sorted(
            (place, item if self._group is None else f"{name}/{item}")
            for name, part in self._parts.items()
            for place, item in part.divided[split]
        )

    def _locate(self, item: str) -> tuple[str, str]:
        """The part that an item is in, and its id there."""
        if self._group is None:
            return next(iter(self._parts)), item
        name, _, inner = item.rpartition("/")
        if name not in self._parts:
            raise UsageError(f"{self._where}: there is no item {item!r}")
        return name, inner

    def _file_order(self, item: str) -> tuple[int, int, int]:
        name, inner = self._locate(item)
        return list(self._parts).index(name), *self._parts[name].file_order(inner)

    # -- prompts -------------------------------------------------------------------------------------------------------

    def requests(self, items: Sequence[str]) -> dict[str, list[Instance]]:
        """Return the frozen requests of each item, item id -> instances, in the order given; not to be changed.

        One request an item for tasks that generate and for perplexities; of a multiple choice one for each choice (and
        for `acc_mutual_info` one more for each choice alone), in lm-eval's order.
        """
        if not all(item in self._requests for item in items):
            with undisturbed():
                for item in items:
                    name, inner = self._locate(item)
                    self._requests[item] = self._parts[name].requests(inner)
        return {item: self._requests[item] for item in items}

    def prompt(self, item: str) -> str:
        """Return the prompt of an item, of a multiple choice that of its first choice."""
        return str(self.requests([item])[item][0].args[0])

    def text(self, item: str) -> str:
        """Return an item's own text: its part of the prompt, without instructions, examples and chat template.

        Where that is empty (perplexities), the text that is scored.
        """
        name, inner = self._locate(item)
        return self._parts[name].text(inner)

    def target(self, item: str) -> str:
        """Return an item's right answer as text; of several the first."""
        name, inner = self._locate(item)
        return self._parts[name].target(inner)

    def prompt_hash(self, item: str) -> str:
        """Return 16 hexadecimal digits of SHA-256 of the prompt of an item.

        For tasks scored by likelihood, of the JSON of the (context, continuation) pairs of its requests.
        """
        if item not in self._hashes:
            requests = self.requests([item])[item]
            if self._kind == GENERATES:
                text = str(requests[0].args[0])
            else:
                text = json.dumps([["", *request.args][-2:] for request in requests])
            self._hashes[item] = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self._hashes[item]

    @cached_property
    def prefix(self) -> str:
        """A text that the prompts of the task begin with: a hint for sharing work, seen on a few fixed items.

        Items of search and selection if there are any, since they are asked most: other examples may be fixed for them
        than for the report.
        """
        if self._kind == ROLLING:
            return ""
        rows = sorted(self._placed("search") + self._placed("selection")) or self._placed("report")
        first = rows[:PREFIX_ITEMS]
        try:
            requests = self.requests([item for _, item in first])
        except UsageError:
            return ""  # an item that is asked for says itself what is wrong
        # A choice alone (for acc_mutual_info) has no context.
        contexts = [request.args[0] for row in requests.values() for request in row if request.args[0]]
        low, high = min(contexts, default=""), max(contexts, default="")
        return low[: next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))]

    @cached_property
    def generation_settings(self) -> dict[str, Any]:
        """What shapes the responses besides the model, the prompt and the back end, as plain data."""
        options = {name: part.task.config.generation_kwargs or {} for name, part in self._parts.items()}
        first = next(iter(options.values()))
        same = all(other == first for other in options.values())
        return {"request": self._kind, "options": first if same else {"subtasks": options}}

    # -- scores --------------------------------------------------------------------------------------------------------

    @cached_property
    def scoring_settings(self) -> str:
        """Hash of all that turns responses into scores."""
        own = self._own and self._own.fingerprint
        data = [self.metric, self.filter, self.higher_is_better, own, [p.scoring for p in self._parts.values()]]
        return hashlib.sha256(json.dumps(data, sort_keys=True, default=source_of).encode()).hexdigest()[:16]

    def outcomes(self, answers: Answers) -> list[Outcome]:
        """Score answers, given as (item id, responses to its requests), by the task's own filters and metrics.

        Raises `UsageError` if the metric has no value for a single item, `WorkError` if that is not finite, and
        `CandidateError` if likelihoods are no numbers: the likeliest of them would be a matter of chance.
        """
        for item, responses in answers:
            if any(isinstance(response, Likelihood) and math.isnan(response.logprob) for response in responses):
                raise CandidateError(f"{self._where}: the likelihoods that the model gives for item {item} are NaN")
        filters = {self.filter, *((STRICT, FLEXIBLE) if self._both_filters else ())}
        result = []
        with undisturbed():
            values = self._values(answers, filters)
            scored = [
                {name: self._score(item, value) for name, value in by_filter.items()}
                for (item, _), by_filter in zip(answers, values, strict=True)
            ]
        for (item, responses), scores in zip(answers, scored, strict=True):
            score, weight = scores[self.filter]
            result.append(
                Outcome(
                    task=self.name,
                    item=item,
                    score=score,
                    tokens=sum(response.tokens for response in responses),
                    truncated=any(isinstance(r, Generation) and r.truncated for r in responses),
                    answer=responses_to_text(responses),
                    prompt_hash=self.prompt_hash(item),
                    strict=scores[STRICT][0] if self._both_filters else None,
                    flexible=scores[FLEXIBLE][0] if self._both_filters else None,
                    seconds=sum(response.seconds for response in responses),
                    weight=weight,
                )
            )
        return result

    def aggregate(self, outcomes: Sequence[Outcome]) -> float:
        """Return what lm-eval's command line reports for these items under this metric, in the metric's own direction.

        For the metrics that are not lm-eval's, the mean. A group or tag that lm-eval gives no number is the mean of
        its tasks weighted by their numbers of items. Not to be called without outcomes.
        """
        rows: dict[str, list[Outcome]] = {}
        for outcome in sorted(outcomes, key=lambda outcome: self._file_order(outcome.item)):
            rows.setdefault(self._locate(outcome.item)[0], []).append(outcome)
        numbers = {name: self._number(self._parts[name], part_rows) for name, part_rows in rows.items()}
        if self._group is None:
            return next(iter(numbers.values()))
        key = f"{self.metric},{self.filter}"
        results = {name: {key: number, "sample_len": len(rows[name])} for name, number in numbers.items()}
        with undisturbed():
            number = self._group.aggregate(results).get(key)
        if number is None or self._own is not None:
            number = sum(numbers[name] * len(rows[name]) for name in rows) / len(outcomes)
        return float(number)

    def _number(self, part: Part, rows: list[Outcome]) -> float:
        """What lm-eval reports for one of its tasks."""
        aggregation = self._aggregation(part)
        if self._own is not None or aggregation is mean:
            number = float(mean([outcome.score for outcome in rows]))
            return number if self.higher_is_better else 0.0 - number
        answers = [(o.item, text_to_responses(o, likelihood=self._kind != GENERATES)) for o in rows]
        try:
            with undisturbed():
                return float(aggregation([values[self.filter] for values in self._values(answers, {self.filter})]))
        except OverflowError:  # the perplexity of a broken model
            return math.inf

    def _aggregation(self, part: Part) -> Aggregation:
        found: Aggregation = part.task.aggregation().get(self.metric, mean)
        return found

    def _values(self, answers: Answers, filters: set[str | None]) -> list[dict[str | None, Any]]:
        """What the metric says of each answer under each filter."""
        rows: list[list[Instance]] = []
        by_part: dict[str, list[Instance]] = {}
        for item, responses in answers:
            requests = self.requests([item])[item]
            row = [
                dataclasses.replace(request, resps=[self._plain(response)], filtered_resps={})
                for request, response in zip(requests, responses, strict=True)
            ]
            rows.append(row)
            by_part.setdefault(self._locate(item)[0], []).extend(row)
        for name, instances in by_part.items():
            for ensemble in self._parts[name].task._filters:
                if ensemble.name in filters:
                    ensemble.apply(instances)
        return [
            {name: self._value(item, responses, row, name) for name in filters}
            for (item, responses), row in zip(answers, rows, strict=True)
        ]

    def _plain(self, response: Response) -> Any:
        """A response as lm-eval's models give it."""
        if isinstance(response, Generation):
            return response.text
        return response.logprob if self._kind == ROLLING else (response.logprob, response.greedy)

    def _value(self, item: str, responses: Sequence[Response], row: list[Instance], filter_name: str | None) -> Any:
        filtered = [row_.filtered_resps[filter_name] if filter_name else row_.resps[0] for row_ in row]
        try:
            if self._own is not None:
                (answer,) = responses
                assert isinstance(answer, Generation)
                return self._own.value(row[0].doc, str(filtered[0]), answer)
            part = self._parts[self._locate(item)[0]]
            return part.task.process_results(row[0].doc, filtered).get(self.metric)
        except EvomergeError as error:
            raise type(error)(f"{self._where}, item {item}: {error}") from None
        except Exception as error:
            raise WorkError(f"{self._where}: item {item} cannot be scored: {one_line(error)}") from None

    def _score(self, item: str, value: Any) -> tuple[float, float]:
        """The score and the weight of one item."""
        name = self._locate(item)[0]
        if self._own is not None:
            score, weight = (value if self.higher_is_better else 0.0 - value), 1.0
        else:
            try:
                aggregation = self._aggregation(self._parts[name])
                score, weight = item_score(value, aggregation, higher_is_better=self.higher_is_better)
            except Exception:
                raise UsageError(f"{self._where}: metric {self.metric!r} has no value for a single item") from None
        if not math.isfinite(score):
            error = WorkError if self._kind == GENERATES else CandidateError
            raise error(f"{self._where}: metric {self.metric!r} is {score} for item {item}")
        return score, weight * self._part_weights.get(name, 1.0)

    @cached_property
    def _part_weights(self) -> dict[str, float]:
        """What an item of each part counts for, where lm-eval weights the tasks of a group alike, large or small."""
        listed = (self._group and self._group.aggregate_metric_list) or []
        if all(entry.weight_by_size for entry in listed if entry.metric == self.metric):
            return {}
        sizes = {name: len(part.docs(part.reported_on)) for name, part in self._parts.items()}
        return {name: sum(sizes.values()) / len(sizes) / size for name, size in sizes.items()}


def load_tasks(
    config: Mapping[str, Mapping[str, Any]],
    *,
    split_seed: int = 0,
    data: Mapping[str, str] | None = None,
    chat: ChatTemplate | None = None,
) -> dict[str, EvalTask]:
    """Load tasks from plain data (task name -> the keys of `TaskSpec`).

    Args:
        config: the tasks; one with a list of num_fewshot makes a task NAME-<n>shot for each number.
        split_seed: seed of the division of items.
        data: local files in place of data sets, `task.split` -> path (or `task` -> path), on top of the configuration.
        chat: renders chats (`chat_from(tokenizer)`, or an lm-eval model), for tasks that ask for a chat template.

    Raises `UsageError` for the first thing that is wrong.
    """
    settings = {name: dict(values) if isinstance(values, Mapping) else values for name, values in config.items()}
    for place, path in (data or {}).items():
        name, _, split = place.partition(".")
        if name not in settings:
            raise UsageError(f"data for {place!r}: no such task; {nearest(name, settings)}")
        old = settings[name].get("data_files")
        settings[name]["data_files"] = {**(old if isinstance(old, Mapping) else {}), split: path} if split else path
    specs = [spec for name, values in settings.items() for spec in expand(name, values)]
    return {spec.name: EvalTask(spec, split_seed=split_seed, chat=chat) for spec in specs}


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
    find(name)
    label = name if Path(name).suffix not in (".yaml", ".yml") else Path(name).stem
    return {label: {"task": name}}
