"""How many candidates an hour, against mergekit-evolve? Both search for the best merge of the zoo, on the same items.

    EVOMERGE_MERGEKIT_PYTHON=VENV/bin/python python scripts/bench_evolve.py --out runs/bench-evolve --json FILE
    python scripts/bench_evolve.py --quick --out DIR       # the same, small
    python scripts/bench_evolve.py --batches 16 32 64 --out DIR      # which batch size suits mergekit-evolve best

The environment of mergekit is one of its own (pip install 'mergekit[evolve]==0.1.5'); evomerge's task files and its
sandbox are imported there too, so that prompts, metrics, limits and the running of code are the same.

Both: task arithmetic of the zoo's three experts, a weight for each expert in each block of three layers (in evomerge
one more for what lies outside the layers, which mergekit-evolve ties to the first and the last block), CMA-ES, models
and arithmetic in bfloat16, one worker, one thread, the same items, as many models scored on them (evomerge's 14
baselines count). Both answer a task's items in one batch, unless `--batch`, which is mergekit-evolve's, is smaller.

Measured from the first scored candidate to the last, with a clock inside (bench_evolve_side.py, which also says what is
mended in mergekit for it to run at all). `as shipped` is `--in-memory` without the mend for the batch size. What each
would give its user is scored by `evomerge evaluate` on items that neither has seen. A search that has been run is read,
not run again, if --out is the same.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from evomerge.reporting.statistics import mean_normalised, normalised_difference
from evomerge.reporting.tables import print_table
from evomerge.zoo import SPLITS, items_path, model_path

ROOT = Path(__file__).parent.parent
SIDE = Path(__file__).with_name("bench_evolve_side.py")
EXPERTS = ("code", "math", "translate")
#: task -> metric and filter
TASKS = {
    "zoo_math": ("exact_match", "strict-match"),
    "zoo_code": ("pass_at_1", "sandbox"),
    "zoo_translate": ("exact_match", "whole-line"),
}
ANCHORS = dict.fromkeys(TASKS, (0.0, 1.0))
#: Layers in a block; the zoo has six.
BLOCK = 3
#: Base, experts, average, six uniform weights, three methods untuned.
BASELINES = 14


@dataclass(frozen=True)
class Size:
    """How much is done: models scored on the search items, items a task of each split."""

    models: int
    items: int
    selection: int
    report: int
    shipped: int  # models of the slow variant, of which only the pace is wanted


SIZES = {False: Size(60, 48, 100, 400, 8), True: Size(30, 8, 8, 40, 4)}


# ---- the two sides ---------------------------------------------------------------------------------------------------


def run_evomerge(folder: Path, size: Size, racing: bool) -> tuple[float, float]:
    """Search with evomerge and export the best; return when the search began and ended."""
    run = folder / "run"
    files = {task: {split: str(file_of(folder, task, split)) for split in SPLITS} for task in TASKS}
    overrides = [
        *("models=zoo", "method=task_arithmetic", "space=blocks", "optimizer=cmaes", "tasks=zoo", "workers=in_process"),
        *(f"space.granularity={BLOCK}", "space.own=[]", "evaluation.dtype=bfloat16"),
        *("evaluation.allow_code_execution=true", f"budget.candidates={size.models - BASELINES}"),
        *(
            f"items={{search: null, selection: {size.selection}, report: {min(size.report, 150)}}}",
            f"hydra.run.dir={run}",
        ),
        *(f"+tasks.{task}.data_files={{{', '.join(f'{k}: {v}' for k, v in files[task].items())}}}" for task in TASKS),
        f"racing.enabled={str(racing).lower()}",
    ]
    times = clocked(sys.executable, folder, ["evomerge", "search", *overrides])
    evomerge(folder, "export", str(run), str(folder / "model"), "--pick", "best")
    return times


def run_mergekit(folder: Path, size: Size, *, in_memory: bool, batch: int | None, python: str) -> tuple[float, float]:
    """Search with mergekit-evolve; return when it began and ended."""
    write_tasks(folder)
    genome = {
        "models": [str(model_path(expert)) for expert in EXPERTS],
        "base_model": str(model_path("base")),
        "merge_method": "task_arithmetic",
        "layer_granularity": BLOCK,
    }
    tasks = [{"name": f"{task}_search", "metric": ",".join(metric)} for task, metric in TASKS.items()]
    config = {"genome": genome, "tasks": tasks, "apply_chat_template": False, "fewshot_as_multiturn": False}
    (folder / "genome.yaml").write_text(yaml.safe_dump(config))
    arguments = [
        *("mergekit", str(folder / "genome.yaml"), "--storage-path", str(folder / "storage")),
        *("--max-fevals", str(size.models), "--no-merge-cuda", "--num-gpus", "1"),
        *("--task-search-path", str(folder / "tasks"), "--batch-size", str(batch or 1)),
        *(["--in-memory"] if in_memory else []),
    ]
    times = clocked(python, folder, arguments, **({"CLOCK_BATCH": str(batch)} if batch else {}))
    shutil.move(folder / "storage" / "final_model", folder / "model")
    shutil.rmtree(folder / "storage")
    return times


def write_tasks(folder: Path) -> None:
    """Write the task files of mergekit-evolve: evomerge's own, on the search items."""
    (folder / "tasks").mkdir()
    for task in TASKS:
        files = "".join(f"    {split}: {file_of(folder, task, split)}\n" for split in SPLITS)
        # unsafe_code: mergekit-evolve cannot be told that code may run; it runs in the sandbox here as well
        (folder / "tasks" / f"{task}_search.yaml").write_text(
            f"include: {ROOT / 'evomerge' / 'evaluation' / 'tasks' / task}.yaml\ntask: {task}_search\n"
            f"custom_dataset: !function evomerge.evaluation.data.local_dataset\ndataset_kwargs:\n  data_files:\n{files}"
            "test_split: search\nunsafe_code: false\n"
        )


def write_items(out: Path, size: Size) -> None:
    """Write the items of all splits, of the search split as many as are used."""
    for task in TASKS:
        for split in SPLITS:
            lines = items_path(task.removeprefix("zoo_"), split).read_text(encoding="utf-8").splitlines(keepends=True)
            path = file_of(out / "side", task, split)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines[: size.items] if split == "search" else lines), encoding="utf-8")


def file_of(folder: Path, task: str, split: str) -> Path:
    """Return the file of a task's items; all sides share them."""
    return folder.parent / "items" / f"{task}-{split}.jsonl"


def clocked(python: str, folder: Path, arguments: list[str], **variables: str) -> tuple[float, float]:
    """Run one side in a process of its own; return when it began and ended."""
    began = time.time()
    environment = {"CLOCK": str(folder / "clock.jsonl"), **variables}
    run([python, str(SIDE), *arguments], folder, f"{SIDE.parent}:{ROOT}", **environment)
    return began, time.time()


def evomerge(folder: Path, *arguments: str) -> None:
    """Run a command of evomerge."""
    run([sys.executable, "-m", "evomerge.cli", *arguments], folder, str(ROOT))


def run(command: list[str], folder: Path, path: str, **variables: str) -> None:
    """Run a command on one thread, offline, its words in the folder's log; `SystemExit` if it fails."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"} | variables
    with (folder / "log.txt").open("a") as log:
        done = subprocess.run(command, cwd=folder, env=environment | {"PYTHONPATH": path}, stdout=log, stderr=log)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} ... failed; see {folder / 'log.txt'}")


# ---- what came of it -------------------------------------------------------------------------------------------------


def result_of(folder: Path, began: float, ended: float) -> dict[str, Any]:
    """Return pace and parts of a search from what the clock has written."""
    lines = [json.loads(line) for line in (folder / "clock.jsonl").read_text().splitlines()]
    first, rest = lines[0], lines[1:]
    seconds = rest[-1]["at"] - first["at"]
    parts: Counter[str] = Counter()
    for line in rest:
        parts.update(line["parts"])
    return {
        "candidates": len(lines),
        "an_hour": 3600 * len(rest) / seconds,
        "seconds": seconds / len(rest),
        "processor": sum(line["processor"] for line in rest) / len(rest),
        "parts": {what: value / len(rest) for what, value in parts.most_common()},
        "items": sum(line["items"] for line in rest) / len(rest),
        "start": first["at"] - began,
        "end": ended - rest[-1]["at"],
        "all": ended - began,
    }


def score_of(folder: Path, report: int) -> dict[str, list[float]]:
    """Return the scores of the model that a search would give its user, item by item, on the report split."""
    found = folder / "scores.json"
    arguments = ("--split", "report", "--limit", str(report), "--dtype", "bfloat16", "--out", str(found))
    evomerge(folder, "evaluate", str(folder / "model"), "--tasks", "zoo", *arguments, "--allow-code-execution")
    tasks = json.loads(found.read_text())["tasks"]
    return {task: [outcome["score"] for outcome in tasks[task]["outcomes"]] for task in TASKS}


def print_results(results: dict[str, dict[str, Any]]) -> None:
    """Print paces, parts and winners."""
    ours = {name: found for name, found in results.items() if name.startswith("evomerge")}
    header = [
        "search",
        "candidates",
        "an hour",
        "s each",
        "processor s",
        "items each",
        "until the first",
        "after the last",
    ]
    rows = [
        [
            *(name, str(found["candidates"]), f"{found['an_hour']:.0f}", f"{found['seconds']:.2f}"),
            *(f"{found['processor']:.2f}", f"{found['items']:.0f}", f"{found['start']:.0f} s", f"{found['end']:.0f} s"),
        ]
        for name, found in results.items()
    ]
    print_table(header, rows)
    rivals = [name for name in results if name not in ours]
    rows = [[name, *(f"{ours[name]['an_hour'] / results[rival]['an_hour']:.2f}" for rival in rivals)] for name in ours]
    print_table(["times as many as", *rivals], rows)
    parts = list(dict.fromkeys(what for found in results.values() for what in found["parts"]))
    rows = [[name, *(f"{found['parts'].get(what, 0):.3f}" for what in parts)] for name, found in results.items()]
    print_table(["seconds a candidate", *parts], rows)
    scored = {name: found["scores"] for name, found in results.items() if found.get("scores")}
    first = next(iter(scored.values()), None)
    rows = []
    for name, scores in scored.items():
        mean = mean_normalised(scores, ANCHORS)
        cells = [f"{100 * sum(scores[task]) / len(scores[task]):.1f}" for task in TASKS]
        difference = "-"
        if scores is not first and first is not None:
            found = normalised_difference({task: (first[task], scores[task]) for task in TASKS}, ANCHORS)
            difference = f"{100 * found.mean:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}], p = {found.p:.2g}"
        rows.append([name, *cells, f"{100 * mean.mean:.1f} [{100 * mean.low:.1f}, {100 * mean.high:.1f}]", difference])
    if rows:
        print_table(
            ["winner of", *(f"{task} %" for task in TASKS), "mean %", f"{next(iter(scored))} less this one"], rows
        )


def main() -> None:
    """Run what has not been run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the searches")
    parser.add_argument(
        "--python", default=os.environ.get("EVOMERGE_MERGEKIT_PYTHON"), help="of mergekit's environment"
    )
    parser.add_argument("--batch", type=int, default=64, help="batch size of mergekit-evolve")
    parser.add_argument("--batches", type=int, nargs="+", help="only find out which batch size suits mergekit-evolve")
    parser.add_argument("--models", type=int, help="models scored on the search items")
    parser.add_argument("--items", type=int, help="search items a task")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these searches")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    size = Size(**{**asdict(SIZES[options.quick]), **{k: v for k in ("models", "items") if (v := getattr(options, k))}})
    out: Path = options.out.resolve()
    write_items(out, size)
    few = Size(**{**asdict(size), "models": size.shipped})
    mergekit = partial(run_mergekit, python=options.python)
    searches: dict[str, Callable[[Path], tuple[float, float]]] = {
        "evomerge": partial(run_evomerge, size=size, racing=False),
        "evomerge, racing": partial(run_evomerge, size=size, racing=True),
        "mergekit in memory": partial(mergekit, size=size, in_memory=True, batch=options.batch),
        "mergekit on disk": partial(mergekit, size=size, in_memory=False, batch=options.batch),
        "mergekit in memory, as shipped": partial(mergekit, size=few, in_memory=True, batch=None),
    }
    if options.batches:
        searches = {
            f"mergekit in memory, batch {batch}": partial(mergekit, size=few, in_memory=True, batch=batch)
            for batch in options.batches
        }
    results: dict[str, dict[str, Any]] = {}
    for name, search in searches.items():
        if options.only and name not in options.only:
            continue
        folder = out / name.replace(", ", "-").replace(" ", "-")
        done = folder / "result.json"
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            result = result_of(folder, *search(folder))
            if not options.batches and not name.endswith("as shipped"):
                result["scores"] = score_of(folder, size.report)
            done.write_text(json.dumps(result) + "\n")
            print(f"{name}: {result['an_hour']:.0f} candidates an hour", flush=True)
        results[name] = json.loads(done.read_text())
    print_results(results)
    if options.json:
        data = {"size": asdict(size), "batch": options.batch, "results": results}
        options.json.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
