"""`evomerge evaluate`: score one model, or the model that a recipe describes, on tasks.

The same evaluator as in a search, on a split of each task. This file knows nothing about optimizers or ledgers.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from evomerge.checkpoints import Checkpoint, ModelPool, resolve
from evomerge.errors import UsageError
from evomerge.evaluation import (
    EvalTask,
    Evaluator,
    Health,
    OutcomeStore,
    find_task_config,
    health_of,
    load_tasks,
)
from evomerge.evaluation.types import Outcome, Split
from evomerge.merging import check
from evomerge.merging.fingerprint import combine, fingerprint, to_text
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import Interval, mean_interval
from evomerge.reporting.tables import are_shares, print_table
from evomerge.search.columns import RATES, interval_text, legend, rates
from evomerge.search.config import Evaluation
from evomerge.search.opening import pick_items
from evomerge.search.scorer import load_backend, load_chat, load_scorer, pick_device, start_sandbox

# 2: metric, aggregate, tokens, seconds, and rates of looping and misshapen answers.
EVALUATION_VERSION = 2


def evaluate(
    model: str,
    *,
    tasks: Sequence[str] | Mapping[str, Mapping[str, Any]],
    split: Split,
    limit: int | None,
    changes: Mapping[str, Any],
    data: Mapping[str, str],
    evaluation: Evaluation,
) -> dict[str, Any]:
    """Score a model on a split of each task, print a table and return everything as plain data.

    Args:
        model: a directory, `org/name@revision`, `zoo:name`, or the path of a recipe (.yaml).
        tasks: names of tasks in `conf/tasks`, or paths of task YAML files; or the tasks of a search, name -> keys.
        split: search, selection or report.
        limit: score only the first so many items, in the order of the data file, as lm-eval's `--limit`.
        changes: keys of `TaskSpec` that are to be so in every task.
        data: `task.split` -> file to read that split of the task's data set from.
        evaluation: how to score.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be 1 or more")
    recipe = Recipe.load(model) if model.endswith((".yaml", ".yml")) else None
    if recipe is None:
        path = resolve(model)
        checkpoint = Checkpoint.open(path)  # refuses what cannot be read safely
    else:
        pool = ModelPool.open(recipe.base, recipe.experts, vocabulary=recipe.vocabulary)
        check(recipe, pool.layout)
    named = tasks if isinstance(tasks, Mapping) else {k: v for task in tasks for k, v in find_task_config(task).items()}
    configured = {name: {**keys, **changes} for name, keys in named.items()}
    loaded = load_tasks(configured, data=data, chat=load_chat(configured, path if recipe is None else pool))
    items = pick_items(loaded, split, limit, in_file_order=True)  # so that --limit means what it means to lm-eval
    start_sandbox(loaded.values(), evaluation)
    store = None if evaluation.outcomes is None else OutcomeStore(Path(evaluation.outcomes))
    device = pick_device(evaluation.device)
    if recipe is None:
        backend = load_backend(path, evaluation, device)
        evaluator = Evaluator(loaded, backend, allow_code_execution=evaluation.allow_code_execution, store=store)
        key = "" if store is None else fingerprint_of(checkpoint)
    else:
        engine, evaluator = load_scorer(pool, loaded, evaluation, device, store)
        key = engine.apply(recipe).fingerprint
    results = {name: summary(loaded[name], evaluator.score(name, ids, key)) for name, ids in items.items()}
    header, rows = table(results)
    print_table(header, rows, title=f"{model}, {split} split")
    for line in legend(header, rows):
        print(line)
    return {"version": EVALUATION_VERSION, "model": model, "split": split, "tasks": results}


def fingerprint_of(checkpoint: Checkpoint) -> str:
    """Return the fingerprint of a model's files: that of the merge, where they were written by `evomerge merge`."""
    return to_text(combine(*(fingerprint(name, checkpoint.tensor(name)) for name in checkpoint.names)))


def summary(task: EvalTask, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what there is to say about a model's outcomes on a task, as plain data.

    `mean` and its interval are of the scores, where larger is better; `aggregate` is the number that lm-eval reports,
    in the metric's own direction.
    """
    seconds, tokens = sum(outcome.seconds for outcome in outcomes), sum(outcome.tokens for outcome in outcomes)
    return {
        **asdict(mean_interval([outcome.score for outcome in outcomes])),
        "metric": task.metric,
        "aggregate": task.aggregate(outcomes),
        "health": asdict(health_of(outcomes)),
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds if seconds > 0 else None,
        "outcomes": [outcome.to_dict() for outcome in outcomes],
    }


def table(results: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the table of summaries; lm-eval's number has a column where it is not the mean."""
    aggregates = [_aggregate(result) for result in results.values()]
    header = ["task", "score (95 % interval)", *(["metric"] if any(aggregates) else []), "items", RATES]
    rows = []
    for (name, result), aggregate in zip(results.items(), aggregates, strict=True):
        share = are_shares(row["score"] for row in result["outcomes"])
        interval = Interval(result["mean"], result["error"], result["low"], result["high"])
        pace = result["tokens_per_second"]
        rows.append(
            [
                name,
                interval_text(interval, share) + (" %" if share else ""),
                *([aggregate or "-"] if any(aggregates) else []),
                str(len(result["outcomes"])),
                rates(Health(**result["health"])),
                f"{result['seconds']:.1f}",
                "-" if pace is None else f"{pace:.0f}",
            ]
        )
    return [*header, "seconds", "tokens/s"], rows


def _aggregate(result: Mapping[str, Any]) -> str:
    """Write lm-eval's number with its name; nothing where it is the mean of the scores."""
    if math.isclose(result["aggregate"], result["mean"], rel_tol=1e-9, abs_tol=1e-12):
        return ""
    return f"{result['metric']} {result['aggregate']:.4g}"
