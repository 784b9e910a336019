"""Is the promise of a predicted recipe kept? Simulated searches whose scores are known, and finished runs.

    python scripts/bench_promise.py RUN RUN --out DIR --json FILE    # simulation, and 12 preferences of each run
    python scripts/bench_promise.py --quick                          # a few small simulated searches, a minute

A search predicts a recipe for every preference, with intervals for its scores on the selection split. For each search
12 preferences are asked: each task alone, all alike, the others at random. Simulated: MAP on landscapes
(`evomerge/landscapes`), 64 items to search and 200 new ones for the score; the truth is known too, so the flattery of
the best of many predictions is measured before and after it is allowed for. Real: the recipe is exported by
`evomerge export RUN OUT --predicted`, and the exported model is scored on as many items of the selection split as is
promised for, by `evomerge evaluate`. A promise is kept if the scores of all tasks lie inside. Target: in at least 9 of
10 preferences. Items are common to all preferences of a search, so promises of one search are kept or broken together.
Knows nothing about how intervals are made.
"""

import argparse
import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.cli.quiet import quiet
from evomerge.landscapes import landscape
from evomerge.optimizers import fit_surrogates
from evomerge.optimizers.base import Problem, Proposal
from evomerge.optimizers.map import Answers, MapSearch, amortise
from evomerge.reporting.tables import print_table
from evomerge.search.baselines import baselines
from evomerge.search.config import SearchConfig
from evomerge.search.directory import RunDirectory
from evomerge.search.evaluate import evaluate
from evomerge.search.export import export_predicted
from evomerge.search.opening import open_pool, open_spaces
from evomerge.search.predicted import predictions_of, read_predictions
from evomerge.threads import one_thread

Array = NDArray[np.float64]

RECORDING = Path(__file__).parent / "landscapes" / "zoo.npz"
LANDSCAPES = ("merge-3d-3", "merge-18d-3", "zoo-weights", "zoo-layers")
QUICK = ("merge-3d-3", "merge-6d-2")
PREFERENCES = 12
TARGET = 0.9


def preferences(tasks: int, seed: int, count: int = PREFERENCES) -> Array:
    """Return weights, (count, tasks): each task alone, all alike, then random ones to two decimals."""
    rng = np.random.default_rng(seed)
    first = np.vstack([np.eye(tasks), np.full((1, tasks), 1.0)])
    others = np.maximum(np.round(rng.dirichlet(np.ones(tasks), count - len(first)), 2), 0.01)
    return np.vstack([first, others])


def simulate(name: str, seed: int, *, items: int, selection: int, candidates: int) -> dict[str, Any] | None:
    """Return how one simulated search's promises were kept, None if it made none."""
    problem = landscape(name, RECORDING)
    sample, new = problem.sample(items, seed), problem.sample(selection, 1_000_000 + seed)
    optimizer = MapSearch(Problem(problem.dimensions, sample.objectives, seed, len(problem.baselines)))
    points, answers, results = [], [], []

    def score(proposal: Proposal) -> None:
        points.append(proposal.vector)
        answers.append(sample.outcomes(proposal.vector))
        results.append(sample.result(proposal.vector))
        optimizer.tell(proposal, results[-1])

    for number, point in enumerate(problem.baselines.values()):
        score(Proposal(number, point))
    for _ in range(candidates):
        score(optimizer.ask(1)[0])
    fitted = fit_surrogates(
        problem.dimensions,
        sample.objectives,
        points,
        [result.values for result in results],
        [result.items for result in results],
        errors=[result.errors for result in results],
    )
    tasks = range(len(problem.tasks))
    scores = tuple(np.array([answer[j] for answer in answers]) for j in tasks)
    front = amortise(fitted, Answers(tuple(range(len(points))), scores), [selection for _ in tasks], seed=0)
    if front is None:
        return None
    rows = []
    for weights in preferences(len(problem.tasks), seed):
        place = front.best(dict(zip(problem.tasks, weights.tolist(), strict=True)))
        vector = front.vectors[place]
        truth = problem.means([vector])[0]
        middle = (front.low[place] + front.high[place]) / 2.0
        rows.append(
            {
                "kept": _inside(new.result(vector.tolist()).values, front.low[place], front.high[place]),
                "flattery": float((front.values[place] - truth).mean()),
                "left": float((middle - truth).mean()),
                "width": float((front.high[place] - front.low[place]).mean()),
            }
        )
    return {"seed": seed, "rows": rows}


def check_run(run: Path, out: Path, *, count: int) -> dict[str, Any]:
    """Export the recipes for some preferences from a finished run, score them, and return how promises were kept.

    The run is copied; where it has no predictions, of this version, they are made from its ledger.
    """
    copied = out / run.name
    if not copied.exists():
        shutil.copytree(run, copied)
    _predict(copied)
    found = read_predictions(copied)
    config = SearchConfig.from_dict(RunDirectory(copied).read_config())
    tasks = [objective.name for objective in found.points.objectives]
    rows: list[dict[str, Any]] = []
    scored: dict[str, list[float]] = {}
    for weights in preferences(len(tasks), 0, count).tolist():
        prefer = dict(zip(tasks, weights, strict=True))
        point = found.best(prefer)
        if point.hash not in scored:
            exported = out / f"{run.name}-{point.hash}"
            if not (exported / "config.json").exists():
                _, recipe = export_predicted(copied, exported, prefer=prefer)
                assert recipe == point.hash
            evaluation = replace(config.evaluation, outcomes=str(out / "outcomes"))
            report = evaluate(
                str(exported),
                tasks=config.tasks,
                split="selection",
                limit=max(point.items.values()),
                changes={},
                data={},
                evaluation=evaluation,
            )
            scored[point.hash] = [report["tasks"][task]["mean"] for task in tasks]
        low, high = ([ends[i] for ends in point.scores.values()] for i in (1, 2))
        kept = _inside(scored[point.hash], low, high)
        rows.append(
            {
                "prefer": prefer,
                "hash": point.hash,
                "scores": scored[point.hash],
                "low": low,
                "high": high,
                "kept": kept,
            }
        )
        print(f"{run.name} {prefer}: {'kept' if all(kept) else 'broken'} {scored[point.hash]}", flush=True)
    return {"run": run.name, "recipes": len(scored), "rows": rows}


def _predict(run: Path) -> None:
    """Make the predictions of a run where it has none that can be read."""
    directory = RunDirectory(run)
    if directory.surrogates.exists() and json.loads(directory.surrogates.read_text()).get("front"):
        return
    config = SearchConfig.from_dict(directory.read_config())
    record = directory.read()
    spaces = open_spaces(config, open_pool(config))
    random = (record.begin or {}).get("random", 0)
    starting = baselines(spaces[0].space, replace(config.baselines, random=random), seed=config.seed)
    found = predictions_of(record, spaces[-1].space, starting)
    if found is not None:
        directory.write_json(directory.surrogates, found.to_dict())


def _inside(scores: Sequence[float], low: Sequence[float] | Array, high: Sequence[float] | Array) -> list[bool]:
    return [bool(a <= score <= b) for score, a, b in zip(scores, low, high, strict=True)]


def summarise(searches: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the share of preferences whose promise was kept, of tasks, and of searches that reach the target."""
    kept = [[all(row["kept"]) for row in search["rows"]] for search in searches]
    found: dict[str, Any] = {
        "searches": len(searches),
        "kept": float(np.mean(kept)),
        "tasks_kept": float(np.mean([np.mean(row["kept"]) for search in searches for row in search["rows"]])),
        "searches_that_reach_the_target": float(np.mean([np.mean(row) >= TARGET for row in kept])),
    }
    if "flattery" in searches[0]["rows"][0]:
        for key in ("flattery", "left", "width"):
            found[key] = float(np.mean([row[key] for search in searches for row in search["rows"]]))
    return found


def main() -> None:
    """Simulate, check the runs, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="finished runs; they are copied")
    parser.add_argument("--out", type=Path, help="where the runs' exported models go")
    parser.add_argument("--searches", type=int, default=40, help="simulated ones on each landscape")
    parser.add_argument("--preferences", type=int, default=PREFERENCES, help="of a run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    if options.runs and options.out is None:
        parser.error("runs need --out DIR")
    quiet()
    count, candidates = (2, 16) if options.quick else (options.searches, 40)
    report: dict[str, Any] = {"simulated": {}, "runs": {}}
    started = time.monotonic()
    with one_thread():
        for name in QUICK if options.quick else LANDSCAPES:
            made = [simulate(name, seed, items=64, selection=200, candidates=candidates) for seed in range(count)]
            searches = [search for search in made if search is not None]
            if searches:
                report["simulated"][name] = {**summarise(searches), "made": len(made), "rows": searches}
    for run in options.runs:
        found = check_run(run, options.out, count=options.preferences)
        report["runs"][run.name] = {**summarise([found]), **found}
    report["seconds"] = time.monotonic() - started

    rows = [
        [
            name,
            f"{data['searches']} of {data['made']}" if "made" in data else f"{data['recipes']} recipes",
            f"{100 * data['kept']:.0f} %",
            f"{100 * data['tasks_kept']:.0f} %",
            f"{100 * data['searches_that_reach_the_target']:.0f} %",
            *(f"{data[key]:+.3f}" if key in data else "-" for key in ("flattery", "left", "width")),
        ]
        for name, data in {**report["simulated"], **report["runs"]}.items()
    ]
    print("Promises kept: for all tasks of a preference, for single tasks; searches in which 9 of 10 preferences were")
    print(
        "kept; what predictions are above the truth, and what the middle of the interval is; width. Means over tasks."
    )
    print_table(["searches on", "made one", "kept", "tasks", "9 of 10", "flattery", "left", "width"], rows)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
