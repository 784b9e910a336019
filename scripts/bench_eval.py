"""How fast are models scored? Seconds for the same items, against lm-eval's own HFLM at its best batch size.

    python scripts/bench_eval.py --data DIR --json FILE     # 200 items a task, with DIR/gsm8k/{train,test}.jsonl
    python scripts/bench_eval.py --quick                    # 40 items, the zoo's task only unless --data is given

Three tasks on a model of the zoo, in float32, on the processors that torch may use: gsm8k_cot (eight examples that all
prompts share), gsm8k (five examples drawn for each item: nothing is shared) and zoo_math (short prompts). Ours is
timed with all it does: prompts are built before, but tokenizing, generating, scoring, and writing outcomes to the disk
all count; of HFLM only `generate_until` is. HFLM's best batch size is found on the first items. Answers are compared
item by item; one that differs is followed to the place where the answers part, and the gap of the two logits there is
printed. Knows nothing about merging.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from evomerge.checkpoints import resolve
from evomerge.evaluation import (
    EvalTask,
    Evaluator,
    Outcome,
    OutcomeStore,
    TransformersBackend,
    find_task_config,
    load_model,
    load_tasks,
)
from evomerge.evaluation.quiet import undisturbed
from evomerge.evaluation.ties import tie_gap
from evomerge.reporting.tables import print_table

#: lm-eval's default longest answer, so that both do the same.
MAX_GEN_TOKS = 256
TARGETS = {"gsm8k_cot": 4.0, "gsm8k": 1.5, "zoo_math": 2.0}


class Timed(TransformersBackend):
    """Adds up the seconds that answers take."""

    seconds = 0.0

    def respond(self, requests: Sequence[Instance], prefix: str = "") -> Any:
        """Answer one batch."""
        parts = super().respond(requests, prefix)
        while True:
            began = time.perf_counter()
            part = next(parts, None)
            self.seconds += time.perf_counter() - began
            if part is None:
                return
            yield part


def load(name: str, data: Path | None) -> EvalTask:
    """Load a task, from local files where it is GSM8K."""
    (keys,) = find_task_config(name).values()
    if name.startswith("gsm8k"):
        assert data is not None
        files = {split: str(data / "gsm8k" / f"{split}.jsonl") for split in ("train", "test")}
        keys = {**keys, "data_files": files, "max_gen_toks": MAX_GEN_TOKS}
    return load_tasks({name: keys})[name]


def ours(model: Any, tokenizer: Any, task: EvalTask, items: Sequence[str]) -> tuple[dict[str, Any], list[Outcome]]:
    """Score items, and say how long it took and for how long of it answers were made."""
    backend = Timed(model, tokenizer)
    with TemporaryDirectory() as folder:
        evaluator = Evaluator({task.name: task}, backend, store=OutcomeStore(Path(folder)))
        began = time.perf_counter()
        outcomes = evaluator.score(task.name, items, "k")
        seconds = time.perf_counter() - began
    found = {
        "seconds": seconds,
        "outside_generation": 1 - backend.seconds / seconds,
        "tokens_per_second": sum(outcome.tokens for outcome in outcomes) / seconds,
        "truncated": sum(outcome.truncated for outcome in outcomes),
    }
    return found, outcomes


def theirs(model: Any, tokenizer: Any, requests: Sequence[Instance], rows: int) -> tuple[float, list[str]]:
    """Answer requests by HFLM."""
    with undisturbed():
        harness = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=rows)
        began = time.perf_counter()
        answers: list[str] = harness.generate_until(list(requests), disable_tqdm=True)
        return time.perf_counter() - began, answers


def compare(
    model: Any, tokenizer: Any, requests: Sequence[Instance], outcomes: Sequence[Outcome], answers: Sequence[str]
) -> dict[str, Any]:
    """Compare answers item by item."""
    gaps = []
    for request, outcome, answer in zip(requests, outcomes, answers, strict=True):
        if outcome.answer != answer:
            prompt, stops = tokenizer(request.args[0])["input_ids"], request.args[1]["until"]
            gaps.append(tie_gap(model, tokenizer, prompt, outcome.answer, answer, stops=stops))
    return {"differing": len(gaps), "gaps": gaps}


def bench(name: str, task: EvalTask, model: Any, tokenizer: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Time one task."""
    items = task.items("report", in_file_order=True)[: options.items]
    requests = [request for asked in task.requests(items).values() for request in asked]
    ours(model, tokenizer, task, items[:4])
    found, outcomes = ours(model, tokenizer, task, items)
    pilot = requests[: options.pilot]
    trials = {rows: theirs(model, tokenizer, pilot, rows)[0] for rows in options.rows}
    best = min(trials, key=trials.__getitem__)
    seconds, answers = theirs(model, tokenizer, requests, best)
    return {
        "task": name,
        "items": len(items),
        **found,
        "rival_seconds": seconds,
        "rival_batch_size": best,
        "rival_pilot": {str(rows): taken for rows, taken in trials.items()},
        "ratio": seconds / found["seconds"],
        "target": TARGETS.get(name),
        **compare(model, tokenizer, requests, outcomes, answers),
    }


def show(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the table."""
    header = ["task", "items", "ours s", "HFLM s (batch)", "ratio", "target", "outside", "tokens/s", "differing (gaps)"]
    print_table(
        header,
        [
            [
                row["task"],
                str(row["items"]),
                f"{row['seconds']:.1f}",
                f"{row['rival_seconds']:.1f} ({row['rival_batch_size']})",
                f"{row['ratio']:.2f}",
                "" if row["target"] is None else f"{row['target']:.1f}",
                f"{100 * row['outside_generation']:.1f} %",
                f"{row['tokens_per_second']:.0f}",
                f"{row['differing']} {[None if gap is None else round(gap, 6) for gap in row['gaps']]}",
            ]
            for row in rows
        ],
    )


def main() -> None:
    """Time the tasks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--data", type=Path, help="folder with gsm8k/train.jsonl and gsm8k/test.jsonl")
    parser.add_argument("--tasks", default="gsm8k_cot,gsm8k,zoo_math")
    parser.add_argument("--items", type=int, default=None, help="default: 200, quick: 40")
    parser.add_argument("--rows", default="16,32,64,128", help="HFLM's batch sizes to try")
    parser.add_argument("--model", default="zoo:math")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.items = options.items or (40 if options.quick else 200)
    options.rows = [int(rows) for rows in options.rows.split(",")]
    options.pilot = min(32, options.items)
    model, tokenizer = load_model(resolve(options.model), device=options.device)
    rows = []
    for name in options.tasks.split(","):
        if name.startswith("gsm8k") and options.data is None:
            print(f"{name}: left out, --data names no folder with GSM8K")
            continue
        rows.append(bench(name, load(name, options.data), model, tokenizer, options))
        print(json.dumps(rows[-1]), flush=True)
    show(rows)
    if options.json:
        found = {"date": date.today().isoformat(), "threads": torch.get_num_threads(), "rows": rows}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
