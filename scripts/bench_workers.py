"""What does a second worker bring? The same search by one and by several workers on this machine's processors.

    python scripts/bench_workers.py --out DIR --json FILE     # three times each, about half an hour
    python scripts/bench_workers.py --quick --out DIR

Searches on the zoo (random recipes, so that all score the same candidates), each worker a process with one thread.
Measured from the first candidate's score to the last: candidates a minute, and the share of one processor that the
search's own process takes. The limit is what this machine's processors give when all are busy, which is less than so
many times what one gives alone: as many searches of one worker side by side, that have nothing to do with each other.
What they found is compared too: the same scores are expected, to the bit.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from evomerge.reporting.tables import print_table

OVERRIDES = (
    *("experiment=quickstart", "optimizer=random", "workers=spawned", "baselines.grid=[0.5]", "baselines.untuned=[]"),
    *("selection.finalists=2", "selection.front=2"),
)
SIZE = ("budget.candidates=60", "items={search: 48, selection: 48, report: 48}")
QUICK = ("budget.candidates=8", "items={search: 8, selection: 8, report: 8}")


@dataclass
class Running:
    """A search that runs, and what was seen of it: time, candidates scored, processor seconds of its own process."""

    run: Path
    process: subprocess.Popen[bytes]
    driver: psutil.Process
    seen: list[tuple[float, int, float]]

    @property
    def per_minute(self) -> float:
        """Candidates a minute."""
        return 60.0 * (self.seen[-1][1] - self.seen[0][1]) / (self.seen[-1][0] - self.seen[0][0])

    @property
    def share(self) -> float:
        """The share of a processor that the search's own process took."""
        return (self.seen[-1][2] - self.seen[0][2]) / (self.seen[-1][0] - self.seen[0][0])


def measure(runs: list[Path], workers: int, overrides: tuple[str, ...]) -> dict[str, Any]:
    """Run the same search in each directory, all at once; return their pace, and what their own processes have used."""
    searches = [start(run, workers, overrides) for run in runs]
    while any(search.process.poll() is None for search in searches):
        for search in searches:
            count = scored(search.run)
            if search.process.poll() is None and count and (not search.seen or count > search.seen[-1][1]):
                used = search.driver.cpu_times()
                search.seen.append((time.monotonic(), count, used.user + used.system))
        time.sleep(0.02)
    for search in searches:
        if search.process.returncode:
            raise SystemExit(f"the search in {search.run} failed")
    return {
        "searches": len(runs),
        "workers": workers,
        "per_minute": sum(search.per_minute for search in searches),
        "driver": max(search.share for search in searches),
        "scores": scores(runs[0]),
    }


def start(run: Path, workers: int, overrides: tuple[str, ...]) -> Running:
    """Start one search."""
    shutil.rmtree(run, ignore_errors=True)
    command = [sys.executable, "-m", "evomerge.cli", "search", *OVERRIDES, *overrides]
    command += [f"workers.devices=[{','.join(['cpu'] * workers)}]", f"hydra.run.dir={run}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return Running(run, process, psutil.Process(process.pid), [])


def scored(run: Path) -> int:
    """Return how many candidates have been scored on the search split."""
    return len([place for place in scores(run) if place.endswith("search")]) if (run / "ledger.jsonl").exists() else 0


def scores(run: Path) -> dict[str, Any]:
    """Return the scores of all candidates by number and split."""
    events = []
    for line in (run / "ledger.jsonl").read_text().splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            break  # being written
    candidates = {event["number"] for event in events if event["event"] == "ask" and event["kind"] == "candidate"}
    return {
        f"{event['number']} {event['split']}": [event["fingerprint"], event["scores"]]
        for event in events
        if event["event"] == "tell" and event["number"] in candidates
    }


def main() -> None:
    """Run, compare, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    size, times = (QUICK, 1) if options.quick else (SIZE, options.times)
    count, found = options.workers, list[dict[str, Any]]()
    for turn in range(times):  # in turns, so that what else the machine does is shared
        for kind, searches, workers in (("one", 1, 1), ("several", 1, count), ("limit", count, 1)):
            runs = [options.out / f"{kind}-{turn}-{number}" for number in range(searches)]
            found.append({"kind": kind, **measure(runs, workers, size)})
    same = all(one["scores"] == found[0]["scores"] for one in found)
    paces = {kind: [one["per_minute"] for one in found if one["kind"] == kind] for kind in ("one", "several", "limit")}
    pace = {kind: statistics.median(of_kind) for kind, of_kind in paces.items()}
    report = {
        "pace": pace,
        "ratio": pace["several"] / pace["one"],
        "limit": pace["limit"] / pace["one"],
        "driver": max(one["driver"] for one in found),
        "same_scores": same,
        "runs": [{key: value for key, value in one.items() if key != "scores"} for one in found],
    }
    names = {"one": "one worker", "several": f"{count} workers", "limit": f"{count} searches of one worker each"}
    rows = [[name, f"{pace[kind]:.1f}", f"{pace[kind] / pace['one']:.2f}"] for kind, name in names.items()]
    print_table(["", "candidates a minute", "times one worker"], rows)
    print(f"the search's own process: {100 * report['driver']:.1f} % of a processor at the most")
    print("scores: the same, to the bit" if same else "scores: DIFFERENT")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
