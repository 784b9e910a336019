"""Which optimizer finds good merges with few scored items? All of them, and rivals, on landscapes with known truth.

    python scripts/bench_optimizers.py --jobs 2 --cache runs/bench-optimizers --json FILE      # an hour or so
    python scripts/bench_optimizers.py --quick                                                 # minutes

Every optimizer of `conf/optimizer`, with the options given there, and beside them three rivals run directly through
their own interfaces: Optuna's TPE, pycma's `fmin2`, pymoo's NSGA-II. All are given the same baselines to start from,
all score on the same items (of a landscape and seed), and baselines count as evaluations. What is measured, each as
the share that is missing, so that 0 is perfect:

- regret: the recommended point is the one with the best observed mean of normalised scores; how far its true mean gain
  stays below the optimum's (1: no better than the base). All points are scored on the same items, so shrinking the
  scores towards their mean would recommend the same point.
- volume: the hypervolume above the base of the true gains of the points on the observed front, as a share of that of
  the whole true front, an infinite set: some hundred perfect points miss some of it too. Only with several objectives.

Tables give means over seeds with 95 % intervals, ratios to random search (below 1 is better; paired over seeds), and
the best rival's. `--cache` keeps finished searches, so that a stopped run goes on; delete it when an optimizer or the
recording has changed.
"""

import argparse
import json
import os
import sys
import time
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from scipy import stats

from evomerge.config import conf_dir
from evomerge.landscapes import RECORDED, SYNTHETIC, Landscape, Sample, landscape
from evomerge.optimizers import OPTIMIZERS, Problem, Proposal, Result, create
from evomerge.reporting.front import non_dominated
from evomerge.reporting.tables import print_table

RECORDING = Path(__file__).parent / "landscapes" / "zoo.npz"
CONTROL = "random"
QUICK = {"landscapes": ["merge-3d-3", "merge-6d-1", "merge-18d-3"], "seeds": 3, "budget": 60, "slow_seeds": 1}
#: Where MAP's target is measured: one weight for each of three experts. Evaluations, points of the grid along a side.
TARGET, TARGET_EVALUATIONS, TARGET_SIDE = ("merge-3d-3", "zoo-weights", "zoo-grid"), 100, 10
RESAMPLES = 2000
POPULATION = 20

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """One search: all that decides its result."""

    landscape: str
    optimizer: str
    seed: int
    budget: int
    items: int
    recording: str

    def key(self) -> str:
        """Return what a cache knows it by."""
        return json.dumps([self.landscape, self.optimizer, self.seed, self.budget, self.items])


class Spent(Exception):  # noqa: N818 - not an error
    """The budget is spent; ends a rival that would go on."""


class Archive:
    """Scores the points of one search on its items, until the budget is spent, and keeps them in order."""

    def __init__(self, sample: Sample, budget: int) -> None:
        self.sample, self.budget = sample, budget
        self.points: list[tuple[float, ...]] = []
        self.observed: list[list[float]] = []  # normalised

    def result(self, point: Sequence[float], *, by_item: bool = False) -> Result:
        """Score a point; raises `Spent` instead when the budget is spent."""
        if len(self.points) == self.budget:
            raise Spent
        result = self.sample.result(point, by_item=by_item)
        self.points.append(tuple(float(u) for u in point))
        self.observed.append([o.normalise(v) for o, v in zip(self.sample.objectives, result.values, strict=True)])
        return result

    def scores(self, point: Sequence[float]) -> list[float]:
        """Score a point and return its normalised scores."""
        self.result(point)
        return self.observed[-1]


# ---- optimizers and rivals: each scores points in its own way until the budget is spent ------------------------------


def ours(name: str, problem: Landscape, seed: int, archive: Archive) -> None:
    """Run one of our optimizers as the search loop does with one worker."""
    settings = yaml.safe_load((conf_dir() / "optimizer" / f"{name}.yaml").read_text())
    starts = list(problem.baselines.values())
    optimizer = create(
        settings["name"],
        Problem(problem.dimensions, archive.sample.objectives, seed=seed, first_number=len(starts)),
        scalarization=settings["scalarization"],
        **settings["options"],
    )
    for number, point in enumerate(starts):
        optimizer.tell(Proposal(number, point), archive.result(point, by_item=optimizer.wants_items))
    while proposals := optimizer.ask(1):
        result = archive.result(proposals[0].vector, by_item=optimizer.wants_items)
        optimizer.tell(proposals[0], result)


def optuna_tpe(problem: Landscape, seed: int, archive: Archive) -> None:
    """Run Optuna's TPE as its documentation does; the baselines are added as finished trials."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    names = [dimension.name for dimension in problem.dimensions]
    bounds = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in names}
    sampler = optuna.samplers.TPESampler(seed=seed)
    study = optuna.create_study(directions=["maximize"] * len(problem.tasks), sampler=sampler)
    for point in problem.baselines.values():
        params = dict(zip(names, point, strict=True))
        values = archive.scores(point)
        study.add_trial(optuna.trial.create_trial(params=params, distributions=bounds, values=values))
    study.optimize(lambda trial: archive.scores([trial.suggest_float(name, 0.0, 1.0) for name in names]))


def pycma_fmin2(problem: Landscape, seed: int, archive: Archive) -> None:
    """Run pycma's `fmin2` on the mean of normalised scores, from the best baseline, first step 1/6 of the side."""
    import cma

    starts = list(problem.baselines.values())
    best = int(np.argmax([np.mean(archive.scores(point)) for point in starts]))
    state = np.random.get_state()  # pycma draws from the global generator
    options = {"bounds": [0, 1], "seed": seed + 1, "verbose": -9, "signals_filename": None}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cma.fmin2(lambda x: -float(np.mean(archive.scores(x.tolist()))), starts[best], 1 / 6, options, restarts=9)
    finally:
        np.random.set_state(state)


def pymoo_nsga2(problem: Landscape, seed: int, archive: Archive) -> None:
    """Run pymoo's NSGA-II; the baselines are in its first population. Populations of 20, not of 100: it gets 200."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import ElementwiseProblem
    from pymoo.optimize import minimize

    n, m = len(problem.dimensions), len(problem.tasks)

    class Scored(ElementwiseProblem):  # type: ignore[misc, unused-ignore]
        def _evaluate(self, x: Vector, out: dict[str, Any], *args: Any, **kwargs: Any) -> None:
            out["F"] = [-value for value in archive.scores(x.tolist())]

    starts = np.array(list(problem.baselines.values()))
    others = np.random.default_rng(seed).random((POPULATION - len(starts), n))
    algorithm = NSGA2(pop_size=POPULATION, sampling=np.vstack([starts, others]))
    ends = ("n_eval", 10 * archive.budget)  # `Spent` ends it before
    minimize(Scored(n_var=n, n_obj=m, xl=0.0, xu=1.0), algorithm, ends, seed=seed, verbose=False)


RIVALS = {"optuna TPE": optuna_tpe, "pycma fmin2": pycma_fmin2, "pymoo NSGA-II": pymoo_nsga2}
SEVERAL_OBJECTIVES_ONLY = {"pymoo NSGA-II"}


# ---- one cell --------------------------------------------------------------------------------------------------------


def checkpoints(budget: int) -> list[int]:
    """Return the numbers of evaluations at which is measured."""
    return [budget // 8, budget // 4, budget // 2, budget]


def run_cell(cell: Cell) -> dict[str, Any]:
    """Run one search and measure it; a dictionary of plain data."""
    problem = landscape(cell.landscape, Path(cell.recording))
    archive = Archive(problem.sample(cell.items, cell.seed), cell.budget)
    start = time.process_time()  # not disturbed by other work on the machine
    try:
        if cell.optimizer in RIVALS:
            RIVALS[cell.optimizer](problem, cell.seed, archive)
        else:
            ours(cell.optimizer, problem, cell.seed, archive)
    except Spent:
        pass
    except Exception as error:
        # One that fails is a line of the report, not the end of a long benchmark.
        return {**asdict(cell), "error": f"{type(error).__name__}: {error}"}
    if len(archive.points) < cell.budget:
        return {**asdict(cell), "error": f"stopped by itself after {len(archive.points)} evaluations"}
    seconds = time.process_time() - start
    points, observed = np.array(archive.points), np.array(archive.observed)
    found: dict[str, Any] = {"seconds": seconds, "regret": [], "volume": [], "all scored": []}
    for k in checkpoints(cell.budget):
        found["regret"].append(problem.regret(points[int(observed[:k].mean(axis=1).argmax())]))
        if len(problem.tasks) > 1:
            found["volume"].append(1.0 - problem.volume(points[:k][non_dominated(observed[:k])]))
            found["all scored"].append(1.0 - problem.volume(points[:k][non_dominated(problem.gains(points[:k]))]))
    return {**asdict(cell), **found}


def run_all(cells: Sequence[Cell], jobs: int, cache: Path | None) -> list[dict[str, Any]]:
    """Run all cells that the cache does not hold; their results in the order of the cells."""
    done: dict[str, dict[str, Any]] = {}
    if cache:
        cache.mkdir(parents=True, exist_ok=True)
        file = cache / "cells.jsonl"
        for line in file.read_text().splitlines() if file.is_file() else ():
            entry = json.loads(line)
            done[entry["key"]] = entry
    todo = [cell for cell in cells if cell.key() not in done]
    start = time.monotonic()

    def keep(cell: Cell, found: dict[str, Any], count: int) -> None:
        done[cell.key()] = found
        if cache and "error" not in found:
            with (cache / "cells.jsonl").open("a") as out:
                out.write(json.dumps({"key": cell.key(), **found}) + "\n")
        if count % max(len(todo) // 20, 1) == 0 or count == len(todo):
            print(f"{count} of {len(todo)} searches, {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)

    if jobs == 1:
        for count, cell in enumerate(todo, 1):
            keep(cell, run_cell(cell), count)
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            futures = {pool.submit(run_cell, cell): cell for cell in todo}
            for count, future in enumerate(as_completed(futures), 1):
                keep(futures[future], future.result(), count)
    return [done[cell.key()] for cell in cells]


# ---- what it says ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One optimizer on one landscape by one measure: what is missing, for each seed and checkpoint."""

    landscape: str
    measure: str
    optimizer: str
    missing: dict[int, list[float]]
    seconds: dict[int, float]

    def at(self, place: int, seeds: Sequence[int] | None = None) -> Vector:
        """Return what is missing at a checkpoint, for each seed."""
        return np.array([self.missing[seed][place] for seed in seeds or sorted(self.missing)])


def ratio(row: Row, other: Row, place: int = -1) -> tuple[float, float, float]:
    """Return the ratio of the means of what is missing, with its 95 % interval (bootstrap over common seeds)."""
    seeds = sorted(row.missing.keys() & other.missing.keys())
    mine, theirs = row.at(place, seeds), other.at(place, seeds)
    picks = np.random.default_rng(0).integers(0, len(seeds), (RESAMPLES, len(seeds)))
    resampled = mine[picks].mean(axis=1) / theirs[picks].mean(axis=1)
    low, high = np.quantile(resampled, [0.025, 0.975])
    return float(mine.mean() / theirs.mean()), float(low), float(high)


def beats(row: Row, other: Row, place: int = -1) -> str:
    """Return yes or no where a paired t-test over common seeds says so at 5 %, else a question mark."""
    seeds = sorted(row.missing.keys() & other.missing.keys())
    gap = other.at(place, seeds) - row.at(place, seeds)
    if len(seeds) < 2 or not gap.any():
        return "?"
    if stats.ttest_1samp(gap, 0.0).pvalue > 0.05:
        return "?"
    return "yes" if gap.mean() > 0 else "no"


def rows_of(results: Iterable[dict[str, Any]]) -> list[Row]:
    """Collect results into rows."""
    found: dict[tuple[str, str, str], Row] = {}
    for result in results:
        for measure in ("regret", "volume", "all scored"):
            if result.get(measure):
                key = (result["landscape"], measure, result["optimizer"])
                row = found.setdefault(key, Row(*key, {}, {}))
                row.missing[result["seed"]] = result[measure]
                row.seconds[result["seed"]] = result["seconds"]
    return list(found.values())


def percent(values: Vector) -> str:
    """Write a mean in per cent with half the width of its 95 % interval."""
    if len(values) < 2:
        return f"{100 * values.mean():.1f}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{100 * values.mean():.1f} ±{100 * half:.1f}"


def table(problem: Landscape, measure: str, rows: Sequence[Row], marks: Sequence[int], items: int) -> dict[str, Any]:
    """Print the table of one landscape and measure; its numbers."""
    by_name = {row.optimizer: row for row in rows}
    control = by_name.get(CONTROL)
    rivals = [row for row in rows if row.optimizer in RIVALS]
    rival = min(rivals, key=lambda row: float(row.at(-1).mean()), default=None)
    lines, data = [], {}
    for row in sorted(rows, key=lambda row: float(row.at(-1).mean())):
        line = [row.optimizer, str(len(row.missing)), *(percent(row.at(place)) for place in range(len(marks)))]
        entry: dict[str, Any] = {"seeds": len(row.missing), "missing": [row.at(p).tolist() for p in range(len(marks))]}
        for title, other in (("random", control), ("rival", rival)):
            if other is None or other is row:
                line.append("")
            else:
                middle, low, high = ratio(row, other)
                line.append(f"{middle:.2f} [{low:.2f}, {high:.2f}]")
                entry[f"ratio to {title}"] = [middle, low, high]
        if control is not None:
            entry["beats random"] = beats(row, control) if row is not control else ""
            line.append(entry["beats random"])
        lines.append([*line, f"{1000 * mean(row.seconds.values()) / marks[-1]:.0f}"])
        data[row.optimizer] = entry
    a_point = items * len(problem.tasks)
    header = ["missing, %", "seeds", *(f"{k} ({k * a_point} items)" for k in marks), "/ random"]
    header += [f"/ {rival.optimizer}" if rival else "/ rival", *(["beats random"] if control else []), "CPU ms a point"]
    starts = np.array(list(problem.baselines.values()))
    alone = 1.0 - problem.volume(starts) if measure == "volume" else min(map(problem.regret, starts))
    known = f"{len(problem.dimensions)} dimensions; baselines alone: {100 * alone:.1f} % missing"
    if measure == "volume":
        perfect = problem.front.points
        known += f"; {len(perfect)} points of the true front: {100 * (1 - problem.volume(perfect)):.1f} %"
    print_table(header, lines, title=f"{problem.name}: {measure} ({known})")
    return data


def headline(problem: Landscape) -> str:
    """Return the measure by which an optimizer wins or loses on a landscape."""
    return "volume" if len(problem.tasks) > 1 else "regret"


def wins(rows: Sequence[Row], problems: Sequence[Landscape], title: str) -> list[dict[str, Any]]:
    """Print who wins over the landscapes, by the geometric mean of the ratios to random search; its numbers.

    Only optimizers that ran on all of them are compared.
    """
    chosen = [row for row in rows for p in problems if row.landscape == p.name and row.measure == headline(p)]
    by_place = {(row.landscape, row.optimizer): row for row in chosen}
    names = [
        name
        for name in dict.fromkeys(row.optimizer for row in chosen)
        if all((p.name, name) in by_place for p in problems)
    ]
    if CONTROL not in names:
        return []
    found: list[dict[str, Any]] = []
    for name in names:
        own = [by_place[p.name, name] for p in problems]
        controls = [by_place[p.name, CONTROL] for p in problems]
        means = [[float(by_place[p.name, other].at(-1).mean()) for other in names] for p in problems]
        mine = [line[names.index(name)] for line in means]
        verdicts = [] if name == CONTROL else [beats(row, control) for row, control in zip(own, controls, strict=True)]
        logs = [np.log(max(ratio(row, control)[0], 1e-6)) for row, control in zip(own, controls, strict=True)]
        found.append(
            {
                "optimizer": name,
                "seeds": min(len(row.missing) for row in own),
                "ratio": float(np.exp(np.mean(logs))),
                "rank": float(np.mean([1 + sum(v < x for v in line) for line, x in zip(means, mine, strict=True)])),
                "wins": sum(x == min(line) for line, x in zip(means, mine, strict=True)),
                "beats random": {answer: verdicts.count(answer) for answer in ("yes", "?", "no")},
            }
        )
    found.sort(key=lambda entry: entry["ratio"])
    lines = [
        [entry["optimizer"], str(entry["seeds"]), f"{entry['ratio']:.2f}", f"{entry['rank']:.1f}", str(entry["wins"])]
        + [str(entry["beats random"][answer]) for answer in ("yes", "?", "no")]
        for entry in found
    ]
    header = ["optimizer", "seeds", "missing / random", "mean rank", "wins", "beats random", "unclear", "loses to it"]
    print_table(header, lines, title=f"{title}: {len(problems)} landscapes, last checkpoint")
    return found


def target(problem: Landscape, rows: Sequence[Row], marks: Sequence[int]) -> dict[str, Any]:
    """Print each optimizer's hypervolume after 100 evaluations against that of a 1,000-point grid; its numbers."""
    points = np.array(list(product(np.linspace(0.0, 1.0, TARGET_SIDE), repeat=len(problem.dimensions))))
    grid = problem.volume(points)
    place, lines, data = marks.index(TARGET_EVALUATIONS), [], {}
    names = dict.fromkeys(row.optimizer for row in rows)
    for name in names:
        shares = {
            row.measure: (1.0 - row.at(place)) / grid
            for row in rows
            if row.optimizer == name and row.measure in ("volume", "all scored")
        }
        data[name] = {measure: float(values.mean()) for measure, values in shares.items()}
        lines.append([name, str(len(shares["volume"])), percent(shares["volume"]), percent(shares["all scored"])])
    lines.sort(key=lambda line: -data[line[0]]["volume"])
    print_table(
        ["% of the grid's volume", "seeds", "observed front", "all scored points"],
        lines,
        title=f"{problem.name}: {TARGET_EVALUATIONS} evaluations against a {len(points)}-point grid, "
        f"itself {100 * grid:.1f} % of the true front (map's target: 98)",
    )
    return {"grid": grid, **data}


def main() -> None:
    """Run the searches, print the tables, write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=[*OPTIMIZERS, *RIVALS], help="of ours, and rivals")
    parser.add_argument("--landscapes", nargs="+", help=f"of {', '.join([*SYNTHETIC, *RECORDED])}; default: all")
    parser.add_argument("--seeds", type=int, default=20, help="how many")
    parser.add_argument("--budget", type=int, default=200, help="evaluations, baselines counted")
    parser.add_argument("--items", type=int, default=64, help="of each task")
    parser.add_argument("--slow", nargs="*", default=["gp", "saasgp"], help="optimizers that get fewer seeds")
    parser.add_argument("--slow-seeds", type=int, default=5, help="how many seeds those get")
    parser.add_argument("--recording", type=Path, default=RECORDING, help="file of scripts/record_landscape.py")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep finished searches here")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--quick", action="store_true", help="three landscapes, three seeds, 60 evaluations")
    if "--quick" in sys.argv:
        parser.set_defaults(**QUICK)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes to come
    names = options.landscapes or [*SYNTHETIC, *(RECORDED if options.recording.is_file() else ())]
    problems = [landscape(name, options.recording) for name in names]
    unknown = [name for name in options.optimizers if name not in OPTIMIZERS and name not in RIVALS]
    if unknown:
        parser.error(f"unknown optimizer {unknown[0]!r}; known: {', '.join([*OPTIMIZERS, *RIVALS])}")

    cells = [
        Cell(problem.name, name, seed, options.budget, options.items, str(options.recording))
        for seed in range(max(options.seeds, options.slow_seeds))  # so that all have some seeds, should this be stopped
        for problem in problems
        for name in options.optimizers
        if len(problem.tasks) > 1 or name not in SEVERAL_OBJECTIVES_ONLY
        if seed < (options.slow_seeds if name in options.slow else options.seeds)
    ]
    results = run_all(cells, options.jobs, options.cache)
    rows, marks = rows_of(results), checkpoints(options.budget)
    report: dict[str, Any] = {"settings": {**vars(options), "recording": None, "cache": None, "json": None}}
    report["tables"] = {}
    for problem in problems:
        for measure in ("volume", "regret"):
            own = [row for row in rows if row.landscape == problem.name and row.measure == measure]
            if own:
                report["tables"][f"{problem.name}: {measure}"] = table(problem, measure, own, marks, options.items)
    if TARGET_EVALUATIONS in marks:
        for problem in problems:
            if problem.name in TARGET:
                own = [row for row in rows if row.landscape == problem.name]
                report[f"target: {problem.name}"] = target(problem, own, marks)
    one = [problem for problem in problems if len(problem.tasks) == 1]
    several = [problem for problem in problems if len(problem.tasks) > 1]
    for title, some in (("one objective", one), ("several objectives", several), ("all", problems)):
        if some:
            report[f"wins: {title}"] = wins(rows, some, title)
    slow = sorted(set(options.slow) & {row.optimizer for row in rows})
    if slow:
        print(f"fewer seeds ({options.slow_seeds}), because slow: {', '.join(slow)}")
    ranked = [entry["optimizer"] for entry in report.get("wins: all", []) if entry["optimizer"] in OPTIMIZERS]
    if ranked:
        print(f"the default should be (least missing over all landscapes): {ranked[0]}")
    failed = {(result["optimizer"], result["error"]) for result in results if "error" in result}
    for name, error in sorted(failed):
        print(f"failed: {name}: {error}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
