"""Does racing keep its promise, and what does it save? Races and whole searches on simulated landscapes.

    python scripts/bench_racing.py --json FILE            # an hour on two cores
    python scripts/bench_racing.py --quick --json FILE    # two minutes

Two parts. `promise`: for each rule, races of candidates that full evaluation finds exactly as good as their references,
the worst case, among references that are the best of many noisy results; how many are stopped? `searches`: the same
search with and without racing on landscapes with known optima. Racing saves items where its mean regret (of what is
recommended, noiseless; 0 is the optimum, 1 the base) comes down to that of full evaluation with fewer. Recommended is
the best of the candidates that were scored in full, by their score; one that was cut short never is. Optimizers that
look for a front race against their front, and recommend it: their regret is the missing share of the hypervolume.
"""

import argparse
import itertools
import json
import math
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evomerge.landscapes import landscape
from evomerge.landscapes.landscape import Landscape, Sample
from evomerge.optimizers import Objective, Problem, create
from evomerge.optimizers.base import Proposal, Result
from evomerge.optimizers.scalarization import SCALARIZATIONS
from evomerge.reporting.statistics import wilson_interval
from evomerge.search.racing import Race, RacingSettings, Rule, references
from evomerge.search.racing.claims import corners

Vector = NDArray[np.float64]

#: Items of each task in the races of the first part: unequal on purpose.
ITEMS = (64, 200, 500)
#: Complete results that a race knows in the first part.
KNOWN = 40
#: A raced search may go on for so many times the candidates of the full one, to come down to its regret.
LONGER = 1.5


@dataclass(frozen=True)
class Setting:
    """A search: on which landscape, with how many items a task, by which optimizer."""

    landscape: str
    items: int
    optimizer: str


@dataclass(frozen=True)
class Trace:
    """A search as it went: after each candidate, the items scored so far and the regret of the recommended one."""

    items: list[int]
    regret: list[float]
    complete: int


# ---- the promise -----------------------------------------------------------------------------------------------------


def race_of_an_equal(rule: Rule, settings: RacingSettings, seed: int) -> tuple[bool, float]:
    """Run one race whose candidate is exactly as good as its references; return whether it was stopped, items used."""
    rng = np.random.default_rng(seed)
    field = landscape("merge-18d-3")
    sample = field.sample(max(ITEMS), seed)
    counts = rng.permutation(ITEMS)
    points = rng.random((KNOWN, len(field.dimensions)))
    known = {k: cut(sample, point, counts) for k, point in enumerate(points)}
    values = {k: [float(row.mean()) for row in rows] for k, rows in known.items()}
    goals = sample.objectives
    against = references(goals, rule, values, settings.references)
    near = points[against[0]] if rng.random() < 0.5 else points[rng.integers(KNOWN)]
    candidate = cut(sample, np.clip(near + rng.normal(0.0, 0.2, len(near)), 0.0, 1.0), counts)
    make_equal(candidate, goals, rule, [values[k] for k in against], rng)
    race = Race(settings, goals, rule=rule, known=known, references=against, seed=seed)
    while (block := race.block()) is not None:
        race.take([row[list(places)].tolist() for row, places in zip(candidate, block, strict=True)])
    used = sum(len(one.places) for one in race.results())
    return race.beaten_by is not None, used / sum(ITEMS)


def make_equal(
    rows: list[Vector], goals: Sequence[Objective], rule: Rule, against: list[list[float]], rng: np.random.Generator
) -> None:
    """Change as few random outcomes as are needed for a candidate to be just as good as all its references."""
    if rule == "front":  # just above one of the corners between the members
        found = corners(against)
        for row, bound in zip(rows, found[int(rng.integers(len(found)))], strict=True):
            if math.isfinite(bound):
                level(row, bound, rng)
            else:
                row[rng.random(len(row)) < 0.7] = 0.0
        return
    value = SCALARIZATIONS[rule]
    aim = max(value(goals, values) for values in against)
    if rule == "weighted_sum":
        places = [(j, i) for j, row in enumerate(rows) for i in range(len(row))]
        for index in rng.permutation(len(places)):
            j, i = places[index]
            short = value(goals, [float(row.mean()) for row in rows]) < aim
            if short and rows[j][i] == 0.0:
                rows[j][i] = 1.0
            elif not short and rows[j][i] == 1.0:
                rows[j][i] = 0.0
                if value(goals, [float(row.mean()) for row in rows]) < aim:
                    rows[j][i] = 1.0
        return
    for j, goal in enumerate(goals):  # weights are equal here: both rules ask for the same score everywhere
        low, high = goal.normalise(0.0), goal.normalise(1.0)
        level(rows[j], (aim - low) / (high - low), rng)


def level(row: Vector, aim: float, rng: np.random.Generator) -> None:
    """Change random outcomes until the mean is the smallest possible one that is not below `aim`."""
    wanted = min(max(math.ceil(aim * len(row) - 1e-9), 0), len(row))
    excess = int(row.sum()) - wanted
    places = np.flatnonzero(row == (1.0 if excess > 0 else 0.0))
    row[rng.permutation(places)[: abs(excess)]] = 0.0 if excess > 0 else 1.0


def cut(sample: Sample, point: Sequence[float] | Vector, counts: Sequence[int] | Vector) -> list[Vector]:
    """Return a candidate's outcomes on the first so many items of each task."""
    outcomes = sample.outcomes([float(u) for u in point])
    return [row[: int(count)].copy() for row, count in zip(outcomes, counts, strict=True)]


def promise(job: tuple[Rule, RacingSettings, range]) -> list[tuple[bool, float]]:
    """Run a batch of races."""
    rule, settings, seeds = job
    return [race_of_an_equal(rule, settings, seed) for seed in seeds]


# ---- searches --------------------------------------------------------------------------------------------------------


def search(setting: Setting, racing: RacingSettings | None, candidates: int, seed: int) -> Trace:
    """Run one search."""
    field = landscape(setting.landscape)
    sample = field.sample(setting.items, seed)
    goals = sample.objectives
    known: dict[int, list[Vector]] = {}
    values: dict[int, list[float]] = {}
    points: dict[int, tuple[float, ...]] = {}
    optimizer = create(
        setting.optimizer, Problem(field.dimensions, goals, seed=seed, first_number=len(field.baselines))
    )
    rule: Rule = "front" if optimizer.multi_objective and len(goals) > 1 else "weighted_sum"
    spent = 0
    for number, point in enumerate(field.baselines.values()):
        proposal, outcomes = Proposal(number, point), list(sample.outcomes(point))
        points[number], known[number] = point, outcomes
        values[number] = [float(row.mean()) for row in outcomes]
        spent += sum(map(len, outcomes))
        optimizer.tell(proposal, complete(outcomes))
    path = Trace([spent], [regret(field, goals, rule, values, points)], 0)
    finished = 0
    for _ in range(candidates):
        (proposal,) = optimizer.ask(1)
        outcomes = list(sample.outcomes(proposal.vector))
        result = complete(outcomes)
        if racing is not None:
            against = references(goals, rule, values, racing.references)
            seeds = np.random.SeedSequence([seed, proposal.number]).generate_state(1)
            race = Race(racing, goals, rule=rule, known=known, references=against, seed=int(seeds[0]))
            while (block := race.block()) is not None:
                race.take([row[list(places)].tolist() for row, places in zip(outcomes, block, strict=True)])
            estimates = race.results()
            if race.beaten_by is not None:
                result = Result(
                    tuple(one.mean for one in estimates),
                    tuple(one.error for one in estimates),
                    tuple(len(one.places) for one in estimates),
                    cut_short=True,
                )
        spent += sum(result.items)
        if not result.cut_short:
            finished += 1
            points[proposal.number], known[proposal.number] = proposal.vector, outcomes
            values[proposal.number] = list(result.values)
        optimizer.tell(proposal, result)
        path.items.append(spent)
        path.regret.append(path.regret[-1] if result.cut_short else regret(field, goals, rule, values, points))
    return replace(path, complete=finished)


def regret(
    field: Landscape,
    goals: Sequence[Objective],
    rule: Rule,
    values: dict[int, list[float]],
    points: dict[int, tuple[float, ...]],
) -> float:
    """Return the regret of the best complete candidate, or of the front of all complete ones."""
    if rule == "front":
        return 1.0 - field.volume([points[k] for k in references(goals, rule, values, len(values))])
    return field.regret(points[references(goals, rule, values, 1)[0]])


def complete(outcomes: Sequence[Vector]) -> Result:
    """Return the result of a candidate that was scored in full."""
    means = tuple(float(row.mean()) for row in outcomes)
    errors = tuple(float(row.std() / math.sqrt(len(row))) for row in outcomes)
    return Result(means, errors, tuple(map(len, outcomes)))


def searches(job: tuple[Setting, RacingSettings | None, int, int]) -> Trace:
    """Run one search (for a pool of processes)."""
    return search(*job)


def compare(full: list[Trace], raced: list[Trace], candidates: int) -> dict[str, float | None]:
    """Compare searches of the same seeds: items and regret at equal candidates, items at equal mean regret, if ever."""
    spent = float(np.mean([path.items[candidates] for path in full]))
    target = [path.regret[candidates] for path in full]
    differences = np.array([path.regret[candidates] for path in raced]) - target
    regret = np.mean([path.regret for path in raced], axis=0)
    items = np.mean([path.items for path in raced], axis=0)
    reached = np.flatnonzero(regret <= np.mean(target))
    return {
        "full_regret": float(np.mean(target)),
        "raced_regret": float(regret[candidates]),
        "difference": float(differences.mean()),
        "difference_error": float(differences.std(ddof=1) / math.sqrt(len(differences))),
        "items_at_equal_candidates": float(items[candidates]) / spent,
        "items_at_equal_regret": float(items[reached[0]]) / spent if len(reached) else None,
        "completed": float(np.mean([path.complete for path in raced])) / (len(items) - 1),
    }


def main() -> None:
    """Run both parts, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--part", choices=["promise", "searches"], help="only one of the two")
    parser.add_argument("--races", type=int, default=1000, help="for each rule")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each kind")
    parser.add_argument("--candidates", type=int, default=150, help="of the search with full evaluation")
    parser.add_argument("--landscapes", nargs="+", default=["merge-12d-1", "merge-6d-2", "merge-18d-3"])
    parser.add_argument("--items", type=int, nargs="+", default=[64, 200, 500], help="of each task")
    parser.add_argument("--optimizers", nargs="+", default=["random", "cmaes", "tpe", "nsga2"])
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    for name, kind in (("alpha", float), ("first", int), ("eta", float), ("margin", float)):
        parser.add_argument(f"--{name}", type=kind, help="of the race")
    parser.add_argument("--order", help="of the race")
    parser.add_argument("--estimate", help="of the race")
    options = parser.parse_args()
    if options.quick:
        options.races, options.seeds, options.candidates = 60, 3, 60
        options.landscapes, options.items, options.optimizers = ["merge-6d-2"], [200], ["random", "cmaes"]
    chosen = {name: getattr(options, name) for name in ("alpha", "first", "eta", "margin", "order", "estimate")}
    settings = RacingSettings(**{name: value for name, value in chosen.items() if value is not None})
    report: dict[str, Any] = {"settings": vars(settings), "promise": [], "searches": []}
    start = time.monotonic()
    with ProcessPoolExecutor(options.jobs) as pool:
        if options.part != "searches":
            print(f"promise: at most {settings.alpha:g} of candidates as good as their references are stopped")
            rules: list[Rule] = ["weighted_sum", "front", "maximin", "tchebycheff"]
            for rule in rules:
                jobs = [(rule, settings, range(k, options.races, 20)) for k in range(20)]
                outcomes = list(itertools.chain(*pool.map(promise, jobs)))
                stopped, used = sum(beaten for beaten, _ in outcomes), float(np.mean([share for _, share in outcomes]))
                interval = wilson_interval(stopped, len(outcomes))
                report["promise"].append(
                    {
                        "rule": rule,
                        "races": len(outcomes),
                        "stopped": stopped,
                        "low": interval.low,
                        "high": interval.high,
                    }
                )
                print(
                    f"  {rule:<14}{stopped:>4} of {len(outcomes)} stopped: {interval.mean:.3f} "
                    f"[{interval.low:.3f}, {interval.high:.3f}]   items {used:.2f}   {time.monotonic() - start:.0f} s",
                    flush=True,
                )
        if options.part != "promise":
            print("searches: items and regret beside full evaluation")
            for name, items, optimizer in itertools.product(options.landscapes, options.items, options.optimizers):
                setting, more = Setting(name, items, optimizer), int(LONGER * options.candidates)
                seeds = range(options.seeds)
                full = list(pool.map(searches, [(setting, None, options.candidates, seed) for seed in seeds]))
                raced = list(pool.map(searches, [(setting, settings, more, seed) for seed in seeds]))
                row = compare(full, raced, options.candidates)
                report["searches"].append(vars(setting) | {"candidates": options.candidates} | row)
                at_equal = row["items_at_equal_regret"]
                print(
                    f"  {name:<12}{items:>4} items {optimizer:<7} regret {row['full_regret']:.3f} full, "
                    f"{row['raced_regret']:.3f} raced ({row['difference']:+.3f} +- {row['difference_error']:.3f}) with "
                    f"{row['items_at_equal_candidates']:.2f} of the items; equal regret "
                    f"{'not reached' if at_equal is None else f'at {at_equal:.2f}'}; {row['completed']:.2f} complete   "
                    f"{time.monotonic() - start:.0f} s",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
