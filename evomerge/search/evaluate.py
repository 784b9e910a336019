"""`evomerge evaluate`: score one model, or the model that a recipe describes, on tasks.

The same evaluator as in a search, on a split of each task. This file knows nothing about optimizers or ledgers.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from evomerge.checkpoints import Checkpoint, ModelPool, resolve
from evomerge.errors import UsageError
from evomerge.evaluation import Evaluator, TransformersBackend, find_task_config, health_of, load_model, load_tasks
from evomerge.evaluation.types import Split
from evomerge.merging import MergeEngine, check
from evomerge.recipes import Recipe
from evomerge.reporting.statistics import mean_interval
from evomerge.reporting.tables import percent, print_table
from evomerge.search.start import load_live, pick_device, pick_items

EVALUATION_VERSION = 1


def evaluate(
    model: str,
    *,
    tasks: Sequence[str],
    split: Split,
    limit: int | None,
    batch_size: int,
    dtype: str,
    device: str,
    data: Mapping[str, str],
    allow_code_execution: bool,
) -> dict[str, Any]:
    """Score a model on a split of each task, print a table and return everything as plain data.

    Args:
        model: a directory, `org/name@revision`, `zoo:name`, or the path of a recipe (.yaml).
        tasks: names of tasks in `conf/tasks`, or paths of task YAML files.
        split: search, selection or report.
        limit: score only the first so many items, in the order of the data file, as lm-eval's `--limit`.
        batch_size, dtype, device: how to score.
        data: `task.split` -> file to read that split of the task's data set from.
        allow_code_execution: let tasks run code that the model writes.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: must be 1 or more")
    if batch_size < 1:
        raise UsageError(f"--batch-size {batch_size}: must be 1 or more")
    loaded = load_tasks({name: keys for task in tasks for name, keys in find_task_config(task).items()}, data=data)
    items = pick_items(loaded, split, limit, in_file_order=True)  # so that --limit means what it means to lm-eval
    recipe = Recipe.load(model) if model.endswith((".yaml", ".yml")) else None
    where = pick_device(device)
    if recipe is None:
        path = resolve(model)
        Checkpoint.open(path)  # refuses what cannot be read safely
        live, tokenizer = load_model(path, dtype=dtype, device=where)
        key = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        backend = TransformersBackend(live, tokenizer, batch_size=batch_size)
    else:
        pool = ModelPool.open(recipe.base, recipe.experts, vocabulary=recipe.vocabulary)
        check(recipe, pool.layout)
        live, tokenizer = load_live(pool, dtype=dtype, device=where)
        backend = TransformersBackend(live, tokenizer, batch_size=batch_size)
        MergeEngine(pool, live, on_change=backend.weights_changed).apply(recipe)
        key = recipe.hash
    evaluator = Evaluator(loaded, backend, allow_code_execution=allow_code_execution)
    results: dict[str, Any] = {}
    rows = []
    for name, ids in items.items():
        outcomes = evaluator.score(name, ids, key)
        interval = mean_interval([outcome.score for outcome in outcomes])
        health = health_of(outcomes)
        results[name] = {
            **asdict(interval),
            "health": asdict(health),
            "outcomes": [outcome.to_dict() for outcome in outcomes],
        }
        sick = [f"{100 * rate:.0f} %" for rate in (health.truncated, health.empty)]
        rows.append([name, percent(interval), str(health.items), *sick])
    print_table(
        ["task", "score % (95 % interval)", "items", "truncated", "empty"], rows, title=f"{model}, {split} split"
    )
    return {"version": EVALUATION_VERSION, "model": model, "split": split, "tasks": results}
