"""The largest batch of each task, for the memory that scoring takes. This file knows nothing about bytes."""

from collections.abc import Callable, Mapping

from evomerge.checkpoints import ModelPool
from evomerge.evaluation import EvalTask
from evomerge.evaluation.types import MAX_GEN_TOKS, Split
from evomerge.search.config import SearchConfig
from evomerge.search.opening import pick_items
from evomerge.search.plan.memory import Batch, rows_of

#: Tokens of a prompt where no prompt is here: five worked examples and a question.
_PROMPT = 1024


def batches(
    config: SearchConfig,
    tasks: Mapping[str, EvalTask],
    counts: Mapping[Split, Mapping[str, int | None]],
    pool: ModelPool | None,
    kind: str,
) -> dict[str, Batch]:
    """Return each task's largest batch; prompts are measured on items of the search split."""
    tokenize = None if pool is None else _tokenizer(pool)
    found = {}
    for task in config.tasks:
        most = max((by_task[task] or MAX_GEN_TOKS for by_task in counts.values()), default=1)
        prompt, answer = _PROMPT, MAX_GEN_TOKS
        if tokenize is not None and task in tasks:
            items = pick_items({task: tasks[task]}, "search", 64)[task]
            prompt = max(tokenize(tasks[task].prompt(item)) for item in items)
            settings = tasks[task].generation_settings
            generating = settings["request"] == "generate_until"
            answer = int(settings["options"].get("max_gen_toks", MAX_GEN_TOKS)) if generating else 0
        found[task] = Batch(rows_of(most, config.evaluation.batch_size, kind), prompt, answer)
    return found


def _tokenizer(pool: ModelPool) -> Callable[[str], int]:
    from transformers import AutoTokenizer

    from evomerge.evaluation.quiet import undisturbed

    with undisturbed(), pool.live_directory() as (path, _):
        tokenizer = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    return lambda text: len(tokenizer(text)["input_ids"])
