"""Does a search pay? The 120-candidate experiment over several seeds, each beside the best uniform merge of the same
run.

    python scripts/bench_search.py --out runs/bench --seeds 1 2 3 4 5 --jobs 2 --json FILE
    python scripts/bench_search.py --quick --out DIR      # a minute: small budget, two seeds

Each seed is a whole `evomerge search` in a process of its own; started again, finished seeds are read, not repeated.
Prints the table of all seeds and the paired test pooled over them. Knows nothing about merging.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from evomerge.reporting.statistics import pooled_difference
from evomerge.reporting.tables import print_table

QUICK = ("budget.candidates=10", "items={search: 12, selection: 16, report: 24}", "selection.finalists=2")


def run_seed(seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Run or resume the search of one seed; return its report."""
    run = options.out / f"{options.optimizer}-seed{seed}"
    overrides = [
        f"experiment={options.experiment}",
        f"optimizer={options.optimizer}",
        f"seed={seed}",
        f"hydra.run.dir={run}",
    ]
    run.mkdir(parents=True, exist_ok=True)
    environment = {"OMP_NUM_THREADS": str(options.threads), **os.environ}
    start = time.monotonic()
    with (run / "stdout.txt").open("a") as log:
        command = [sys.executable, "-m", "evomerge.cli", "search", *overrides, *options.overrides]
        subprocess.run(command, check=True, stdout=log, env=environment)
    print(f"seed {seed}: {time.monotonic() - start:.0f} s", flush=True)
    report: dict[str, Any] = json.loads((run / "report.json").read_text())
    return report


def rows_of(report: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the rows of the best found and of the best uniform merge."""
    found = next(row for row in report["rows"] if row["title"].startswith("best found"))
    uniform = next(row for row in report["rows"] if row["title"].startswith("best uniform"))
    return found, uniform


def main() -> None:
    """Run all seeds, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--experiment", default="zoo120")
    parser.add_argument("--optimizer", default="cmaes")
    parser.add_argument("--jobs", type=int, default=1, help="searches at a time")
    parser.add_argument("--threads", type=int, default=1, help="threads a search")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("overrides", nargs="*", help="further configuration overrides")
    options = parser.parse_args()
    if options.quick:
        options.seeds, options.overrides = options.seeds[:2], [*QUICK, *options.overrides]
    options.out = options.out.resolve()
    with ThreadPoolExecutor(options.jobs) as pool:
        reports = list(pool.map(lambda seed: run_seed(seed, options), options.seeds))

    tasks = list(reports[0]["anchors"])
    table, wins, pairs = [], 0, []
    for seed, report in zip(options.seeds, reports, strict=True):
        found, uniform = rows_of(report)
        test = next(t for t in report["tests"] if t["second"].startswith("best uniform"))["mean_normalised"]
        wins += test["mean"] > 0
        pairs.append({t: (found["scores"][t]["by_item"], uniform["scores"][t]["by_item"]) for t in tasks})
        cells = [f"{100 * found['scores'][t]['mean']:.1f} / {100 * uniform['scores'][t]['mean']:.1f}" for t in tasks]
        joined = f"{found['mean_normalised']['mean']:.3f} / {uniform['mean_normalised']['mean']:.3f}"
        difference = f"{test['mean']:+.3f} [{test['low']:+.3f}, {test['high']:+.3f}]"
        table.append([str(seed), uniform["name"], *cells, joined, difference, f"{test['p']:.2g}"])
    header = ["seed", "best uniform", *(f"{t} % found / uniform" for t in tasks), "mean normalised", "difference", "p"]
    print_table(header, table)
    pooled = pooled_difference(pairs, reports[0]["anchors"])
    print(f"found better in {wins} of {len(reports)} seeds")
    interval = f"[{pooled.low:+.3f}, {pooled.high:+.3f}]"
    print(f"pooled over seeds, paired by item: {pooled.mean:+.3f} {interval}, p = {pooled.p:.2g}")
    if options.json:
        data = {"header": header, "rows": table, "wins": wins, "seeds": len(reports), "pooled": vars(pooled)}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main()
