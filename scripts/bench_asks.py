"""What does the next candidate cost an optimizer, and how many workers does it keep busy?

    python scripts/bench_asks.py --json FILE                       # every optimizer, 20 and 200 dimensions
    python scripts/bench_asks.py --optimizers tpe gp --known 1000  # with so many results known

Each optimizer is told results of random points, then asked for a candidate and told of it, again and again, while a few
more are being scored. Times are the processor's. `workers` is for how many an optimizer and the rest of the search
(`--rest`) are quick enough where a candidate takes 60 s: so many that they wait less than 3 % of their time, candidates
ending at random moments (a queue with one server: M/D/1). This file knows nothing about searches.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from simulate_fleet import space_of

from evomerge.errors import UsageError
from evomerge.optimizers import OPTIMIZERS, Objective, Problem, Proposal, Result, create
from evomerge.reporting.tables import print_table

#: Seconds of a candidate, and the share of them that workers may wait.
SECONDS, SHARE = 60.0, 0.03


def landscape(vector: np.ndarray) -> Result:
    """Return two noisy peaks, as of 100 items each."""
    values = [0.2 + 0.6 * float(np.exp(-4.0 * np.mean((vector - best) ** 2))) for best in (0.3, 0.6)]
    luck = np.random.default_rng(int(vector[0] * 2**52)).binomial(100, values) / 100
    by_item = tuple({item: float(item < 100 * value) for item in range(100)} for value in luck.tolist())
    return Result(tuple(luck.tolist()), (0.05, 0.05), (100, 100), by_item=by_item)


def workers(seconds: float) -> int:
    """Return how many workers wait less than `SHARE` of their time for a driver that takes so long for a candidate."""
    queue = max(0.0, SECONDS * SHARE / (1 - SHARE) / seconds - 1)  # a wait is one's own turn and those of a queue
    return int(2 * queue / (1 + 2 * queue) * SECONDS / seconds)


def measure(
    name: str, dimensions: int, known: int, flying: int, asks: int, limit: float, rest: float
) -> dict[str, Any]:
    """Return seconds of asks and tells."""
    row: dict[str, Any] = {"optimizer": name, "dimensions": dimensions, "known": known, "flying": flying}
    rng = np.random.default_rng(0)
    goals = [Objective("maths", 0.2, 0.8), Objective("code", 0.2, 0.8)]
    try:
        optimizer = create(name, Problem(space_of(dimensions).dimensions, goals, 0, known))
    except UsageError as error:
        return {**row, "refused": str(error)}
    for number in range(known):
        vector = rng.random(dimensions)
        optimizer.tell(Proposal(number, tuple(vector.tolist())), landscape(vector))
    waiting: list[Proposal] = []
    asked: list[float] = []
    told: list[float] = []
    end = time.process_time() + limit
    while len(asked) < asks and time.process_time() < end:
        begun = time.process_time()
        proposals = optimizer.ask(1)
        asked.append(time.process_time() - begun)
        waiting += proposals
        if len(waiting) > flying or not proposals:
            proposal = waiting.pop(0)
            outcome = landscape(np.array(proposal.vector))
            begun = time.process_time()
            optimizer.tell(proposal, outcome)
            told.append(time.process_time() - begun)
    ask, tell = statistics.fmean(asked), statistics.fmean(told or [0.0])
    return row | {
        "asks": len(asked),
        "ask": {"mean": ask, "p50": statistics.median(asked), "max": max(asked)},
        "tell": tell,
        "workers": workers(ask + tell + rest),
    }


def table(rows: list[dict[str, Any]]) -> None:
    """Print the figures."""
    print_table(
        ["optimizer", "dimensions", "known", "asks", "ask ms mean", "p50", "max", "tell ms", "workers"],
        [
            [
                *(str(row[key]) for key in ("optimizer", "dimensions", "known", "asks")),
                *(f"{1000 * row['ask'][key]:.1f}" for key in ("mean", "p50", "max")),
                f"{1000 * row['tell']:.2f}",
                str(row["workers"]),
            ]
            for row in rows
            if "ask" in row
        ],
    )


def main() -> None:
    """Measure all that was asked for, print and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [name for name in OPTIMIZERS if name != "optuna"]
    parser.add_argument("--optimizers", nargs="+", default=names, choices=names)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[20, 200])
    parser.add_argument("--known", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--flying", type=int, default=8, help="candidates that are being scored")
    parser.add_argument("--asks", type=int, default=100, help="at most, of each")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds after which no more is asked")
    parser.add_argument("--rest", type=float, default=0.006, help="seconds that the search itself takes a candidate")
    parser.add_argument("--quick", action="store_true", help="a minute: 20 dimensions, few asks")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.quick:
        options.dimensions, options.known, options.asks, options.limit = [20], [100], 10, 2.0
    rows = []
    for dimensions in options.dimensions:
        for name in options.optimizers:
            for known in options.known:
                row = measure(name, dimensions, known, options.flying, options.asks, options.limit, options.rest)
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
                if options.json:
                    options.json.write_text(json.dumps({"command": sys.argv, "rows": rows}, indent=1) + "\n")
    table(rows)


if __name__ == "__main__":
    main()
