"""Whose front covers most? One search an optimizer on the models that ship with evomerge, three objectives each.

    python scripts/bench_fronts.py --out runs/fronts --jobs 2 --json FILE
    python scripts/bench_fronts.py --quick --out DIR      # a few minutes: small budget, two optimizers

Each is a whole `evomerge search` in a process of its own, with the same baselines, items and number of candidates;
started again, finished ones are read, not repeated. The members of a front are chosen on the search split and scored
again on the selection split: the hypervolume is that of the second scores, normalised (0: the base, 1: each task's best
expert), less its optimistic bias, with a bootstrap interval over items; differences from random search are paired by
item. Beside the optimizers stands the front of the baselines alone. Knows nothing about merging.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evomerge.reporting.front_intervals import hypervolume_difference, hypervolume_interval
from evomerge.reporting.tables import plain, print_table
from evomerge.search.directory import RunDirectory
from evomerge.search.record import Record, Trial
from evomerge.search.results import anchors, front, mean_normalised, selected

OPTIMIZERS = ("random", "map", "nsga2", "tpe", "cmaes")
CONTROL = "random"
QUICK = ("budget.candidates=12", "items={search: 12, selection: 16, report: 16}", "selection.finalists=2")

Scores = Mapping[str, list[list[float]]]


def search(optimizer: str, options: argparse.Namespace) -> tuple[Record, float]:
    """Run or resume the search of one optimizer; return its record and the seconds it took this time."""
    run = options.out / optimizer
    run.mkdir(parents=True, exist_ok=True)
    overrides = [
        f"experiment={options.experiment}",
        f"optimizer={optimizer}",
        f"seed={options.seed}",
        f"budget.candidates={options.candidates}",
        f"items={{search: {options.items}, selection: {options.selection}, report: 100}}",
        f"racing.enabled={str(options.racing).lower()}",
        "selection.front=12",
        f"evaluation.outcomes={options.out / 'outcomes'}",
        f"hydra.run.dir={run}",
        *options.overrides,
    ]
    start = time.monotonic()
    with (run / "stdout.txt").open("a") as log:
        command = [sys.executable, "-m", "evomerge.cli", "search", *overrides]
        subprocess.run(command, check=True, stdout=log, env={"OMP_NUM_THREADS": "1", **os.environ})
    seconds = time.monotonic() - start
    print(f"{optimizer}: {seconds:.0f} s", flush=True)
    return RunDirectory(run).read(), seconds


def scores_of(record: Record, members: Sequence[Trial]) -> Scores:
    """Return task -> the selection scores of the members, item by item."""
    return {task: [trial.scores["selection"][task].scores for trial in members] for task in anchors(record)}


def main() -> None:
    """Run all searches, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--optimizers", nargs="+", default=list(OPTIMIZERS))
    parser.add_argument("--experiment", default="zoo120")
    parser.add_argument("--candidates", type=int, default=150)
    parser.add_argument("--items", type=int, default=64, help="of the search split, a task")
    parser.add_argument("--selection", type=int, default=300, help="items of the selection split, a task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--racing", action="store_true", help="candidates race")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*", help="further configuration overrides")
    options = parser.parse_args()
    if options.quick:
        options.optimizers, options.overrides = [CONTROL, "map"], [*QUICK, *options.overrides]
    options.out = options.out.resolve()
    with ThreadPoolExecutor(options.jobs) as pool:
        found = dict(zip(options.optimizers, pool.map(lambda o: search(o, options), options.optimizers), strict=True))

    records = {name: record for name, (record, _) in found.items()}
    one = next(iter(records.values()))
    ends = anchors(one)
    known = [t for t in one.of_kind("base", "expert", "uniform", "untuned") if "selection" in t.scores]
    fronts: dict[str, Scores] = {"baselines alone": scores_of(one, known)}
    best = {"baselines alone": max(mean_normalised(one, trial, "selection") for trial in known)}
    items = {"baselines alone": 0}
    for name, record in records.items():
        fronts[name] = scores_of(record, [trial for trial in front(record) if "selection" in trial.scores])
        best[name] = mean_normalised(record, selected(record)[0], "selection")
        items[name] = sum(s.items for t in record.candidates for s in t.scores["search"].values())
    control = fronts.get(CONTROL)
    rows, data = [], {}
    for name, scores in fronts.items():
        covered = hypervolume_interval(scores, ends)
        cells: dict[str, Any] = {"hypervolume": vars(covered), "best": best[name], "items": items[name]}
        difference = "-"
        if control is not None and name != CONTROL:
            against = hypervolume_difference(scores, control, ends)
            cells["difference"] = vars(against)
            difference = f"{against.mean:+.3f} [{against.low:+.3f}, {against.high:+.3f}]"
        members = len(next(iter(scores.values())))
        rows.append([name, str(items[name]), str(members), plain(covered), difference, f"{best[name]:.2f}"])
        data[name] = {**cells, "members": members, "seconds": found[name][1] if name in found else 0.0}
    header = ["front", "items searched", "members", "hypervolume", f"against {CONTROL}", "best mean normalised"]
    print_table(header, rows)
    if options.json:
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
