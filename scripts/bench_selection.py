"""Is the reported score of the selected recipe true? Thousands of simulated searches, whose true scores are known.

    python scripts/bench_selection.py --json FILE     # 2,000 searches, about ten minutes on one core
    python scripts/bench_selection.py --quick         # 100 searches, half a minute

A simulated search has 60 to 150 candidates on 1 or 3 tasks. An item of a task has a difficulty, the same for all
models; a model is right on it if its ability and the luck it has there exceed that. After a random start, candidates
are made from the best so far by their noisy scores and inherit part of their luck on the search items, and some break.
So the search chases luck, as real ones do. A third of the searches scores every candidate in full; in a third
candidates race, and are stopped once they are clearly worse than the best; in a third two of three are stopped at a
random point, good or bad, and have the plain mean. From there on the code is that of `evomerge search`: finalists,
selection, the report's intervals. Regret is that of finalists chosen otherwise, too: from all candidates, those that
were stopped early among them, by shrunk scores and by raw ones.

The search split has 64 to 200 items, selection 100 to 200, the report 150 to 1,319, drawn five times for each search;
the true score is over all items that there could be. Knows nothing about models.
"""

import argparse
import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from evomerge.evaluation.types import Split
from evomerge.optimizers.base import Objective
from evomerge.recipes import Recipe
from evomerge.reporting.front import hypervolume
from evomerge.reporting.front_intervals import hypervolume_interval
from evomerge.reporting.statistics import mean_interval, mean_normalised, mean_with_error
from evomerge.reporting.tables import print_table
from evomerge.search.config import Selection
from evomerge.search.finalists import finalists, front_finalists
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import anchors, estimates, objectives, rank, selected

Array = NDArray[np.float64]
Bits = NDArray[np.bool_]

#: How candidates are scored on the search split.
WAYS = ("full", "raced", "thinned")
RECIPE = Recipe("linear", "base", {"expert": "expert"}, parameters={"weight": {"expert": 1.0}})  # type: ignore[dict-item]
SELECTION = Selection(finalists=5, chosen=1, front=8)
LUCK_KEPT = 0.7  # of the parent's luck on an item, as a correlation
BROKEN = 0.1  # share of candidates that are
REPORTS = 5  # report splits of each search, so that two thousand searches tell 95 % from 94 %
TARGET = (0.94, 0.96)


@dataclass
class World:
    """Models and items of one simulated search.

    Attributes:
        rng: of all that is drawn.
        tasks: names.
        items: split -> number of items of each task.
        hardness: spread of the items' difficulty, against 1 of luck.
    """

    rng: np.random.Generator
    tasks: tuple[str, ...]
    items: dict[Split, int]
    hardness: float

    def __post_init__(self) -> None:
        """Draw the items of all splits."""
        self.difficulty: dict[tuple[Split, str], Array] = {}
        for split in self.items:
            self.draw_items(split)

    def draw_items(self, split: Split) -> None:
        """Draw the items of a split anew."""
        for task in self.tasks:
            self.difficulty[split, task] = self.rng.normal(0.0, self.hardness, self.items[split])

    def luck(self, parent: dict[str, Array] | None = None) -> dict[str, Array]:
        """Draw a model's luck on the search items, part of it its parent's."""
        fresh = {task: self.rng.normal(size=self.items["search"]) for task in self.tasks}
        if parent is None:
            return fresh
        rest = math.sqrt(1 - LUCK_KEPT**2)
        return {task: LUCK_KEPT * parent[task] + rest * fresh[task] for task in self.tasks}

    def answers(self, split: Split, ability: Array, luck: dict[str, Array] | None = None) -> dict[str, Bits]:
        """Return whether a model is right on each item of a split."""
        luck = luck or {task: self.rng.normal(size=self.items[split]) for task in self.tasks}
        return {
            task: a + luck[task] - self.difficulty[split, task] > 0 for task, a in zip(self.tasks, ability, strict=True)
        }

    def truth(self, ability: Array) -> Array:
        """Return the true score on each task: over all items that there could be."""
        return np.asarray(stats.norm.cdf(ability / math.hypot(1.0, self.hardness)), dtype=np.float64)


def task_score(right: Bits) -> TaskScore:
    """Return the score of answers to all items."""
    mean, error = mean_with_error(right)
    return TaskScore(mean, error, 0, _digits(right), "0" * len(right))


def simulate(seed: int, *, way: str, tasks: int) -> tuple[World, Record, dict[int, Array]]:
    """Run one search up to its end; return its world, its record and the true abilities by number."""
    rng = np.random.default_rng(seed)
    world = World(
        rng,
        tuple("abc"[:tasks]),
        {
            "search": int(rng.integers(64, 201)),
            "selection": int(rng.integers(100, 201)),
            "report": int(rng.choice([150, 300, 500, 1319])),
        },
        float(rng.uniform(0.7, 2.0)),
    )
    record = Record()
    abilities: dict[int, Array] = {}
    lucks: dict[int, dict[str, Array]] = {}
    width = math.hypot(1.0, world.hardness)
    base = width * rng.uniform(-1.0, 0.0, tasks)

    def add(kind: str, ability: Array, luck: dict[str, Array]) -> Trial:
        number = len(record.trials)
        trial = Trial(number, kind, f"{kind} {number}", RECIPE, None)
        record.add(trial)
        abilities[number], lucks[number] = ability, luck
        answers = world.answers("search", ability, luck)
        trial.scores["search"] = {task: task_score(right) for task, right in answers.items()}
        return trial

    add("base", base, world.luck())
    for task in range(tasks):
        gain = rng.uniform(0.6, 1.2) * width
        add("expert", base + np.where(np.arange(tasks) == task, gain, rng.uniform(-0.1, 0.2, tasks)), world.luck())
    top = np.max([abilities[trial.number] for trial in record.of_kind("expert")], axis=0)
    for share in (0.3, 0.5, 0.7):
        add("uniform", base + share * (top - base), world.luck())
    scales = objectives(record, "search")
    told: dict[int, float] = {}  # what the optimizer is told of complete candidates
    start = width * rng.uniform(0.05, 0.3)
    for step in range(int(rng.integers(60, 151))):
        if step < 20 or len(told) < 5:
            ability, luck = base + rng.uniform(0.3, 0.8) * (top - base) + rng.normal(0, start, tasks), world.luck()
        else:
            parent = int(rng.choice(sorted(told, key=lambda number: -told[number])[:5]))
            ability = abilities[parent] + rng.normal(-0.02 * width, 0.3 * start, tasks)
            luck = world.luck(lucks[parent])
        if rng.random() < BROKEN:
            ability = ability - 2.0 * width
        trial = add("candidate", ability, luck)
        if told and way == "raced":
            race(rng, scales, trial, record.trials[max(told, key=lambda number: told[number])])
        if told and way == "thinned" and rng.random() < 2 / 3:
            thin(rng, trial, stopped_by=max(told, key=lambda number: told[number]))
        if trial.complete:
            told[trial.number] = joined(scales, [score.mean for score in trial.scores["search"].values()])
    return world, record, abilities


def race(rng: np.random.Generator, scales: Sequence[Objective], trial: Trial, best: Trial) -> None:
    """Stop a candidate once it is two errors worse than the best on blocks of 8, 24 and 72 common items.

    A plain stand-in for the real race: items in random order, estimates by the difference from the best.
    """
    mine = {task: np.array(score.scores) for task, score in trial.scores["search"].items()}
    best_of = {task: np.array(score.scores) for task, score in best.scores["search"].items()}
    n = len(next(iter(mine.values())))
    order = rng.permutation(n)
    for size in (8, 24, 72):
        if size >= n:
            return
        places = np.sort(order[:size])
        found = {}
        for scale in scales:
            difference = mine[scale.name][places] - best_of[scale.name][places]
            error = max(float(difference.std(ddof=1)), 0.2) / math.sqrt(size) * math.sqrt(1 - size / n)
            found[scale.name] = (float(best_of[scale.name].mean() + difference.mean()), error)
        behind = joined(scales, [best_of[s.name].mean() for s in scales]) - joined(
            scales, [found[s.name][0] for s in scales]
        )
        error = math.hypot(*((s.normalise(1.0) - s.normalise(0.0)) / len(scales) * found[s.name][1] for s in scales))
        if behind > 2 * error:
            trial.beaten_by = best.number
            trial.scores["search"] = {
                task: TaskScore(*found[task], 0, _digits(right[places] > 0), "0" * size, tuple(places.tolist()))
                for task, right in mine.items()
            }
            return


def thin(rng: np.random.Generator, trial: Trial, *, stopped_by: int) -> None:
    """Leave a candidate with the scores of 8, 24 or 72 common items and their plain mean."""
    n, size = trial.scores["search"]["a"].items, int(rng.choice((8, 24, 72)))
    if size >= n:
        return
    places = np.sort(rng.permutation(n)[:size])
    trial.beaten_by = stopped_by
    for task, score in trial.scores["search"].items():
        right = np.array(score.scores)[places]
        error = mean_with_error(right)[1] * math.sqrt(1 - size / n)
        trial.scores["search"][task] = TaskScore(
            float(right.mean()), error, 0, _digits(right > 0), "0" * size, tuple(places.tolist())
        )


def joined(scales: Sequence[Objective], values: Sequence[float]) -> float:
    """Return the mean of normalised scores."""
    return sum(scale.normalise(value) for scale, value in zip(scales, values, strict=True)) / len(scales)


def measure(seed: int, *, way: str, tasks: int, resamples: int) -> dict[str, Any]:
    """Run a search to its report; return how far each of its numbers is from the truth."""
    world, record, abilities = simulate(seed, way=way, tasks=tasks)
    scales, ends, worth = objectives(record, "search"), anchors(record), estimates(record)
    truths = {number: world.truth(ability) for number, ability in abilities.items()}

    def true(trial: Trial) -> float:
        return joined(scales, list(truths[trial.number]))

    def searched(trial: Trial) -> float:
        return joined(scales, [score.mean for score in trial.scores["search"].values()])

    candidates = record.candidates
    luckiest = max((t for t in candidates if t.complete), key=searched)
    shrunk_mean, shrunk_error = worth[luckiest.number].joined
    raw = sorted(candidates, key=lambda trial: -searched(trial))[: SELECTION.finalists]
    shrunk = sorted(candidates, key=lambda trial: -worth[trial.number].joined[0])[: SELECTION.finalists]
    chosen = finalists(record, SELECTION)
    for trial in {t.number: t for t in [*chosen, *shrunk, *raw]}.values():
        answers = world.answers("selection", abilities[trial.number])
        trial.scores["selection"] = {task: task_score(right) for task, right in answers.items()}
    by_raw, by_shrunk = rank(record, raw, "selection")[0], rank(record, shrunk, "selection")[0]
    members = front_finalists(record, worth, SELECTION.front)
    for trial in [*raw, *shrunk]:
        if trial not in chosen:
            trial.scores.pop("selection", None)
    winner = selected(record)[0]
    best = max(map(true, candidates))
    selection = joined(scales, [score.mean for score in winner.scores["selection"].values()])

    covered, errors, joined_covered, joined_errors = [], [], [], []
    for _ in range(REPORTS):
        world.draw_items("report")
        reported = world.answers("report", abilities[winner.number])
        for right, truth in zip(reported.values(), truths[winner.number], strict=True):
            interval = mean_interval(right)
            covered.append(interval.low <= truth <= interval.high)
            errors.append(interval.mean - truth)
        whole = mean_normalised(reported, ends)
        joined_covered.append(whole.low <= true(winner) <= whole.high)
        joined_errors.append(whole.mean - true(winner))
    row: dict[str, Any] = {
        "tasks": tasks,
        "way": way,
        "report_items": world.items["report"],
        "covered": covered,
        "joined_covered": joined_covered,
        "error": errors,
        "joined_error": joined_errors,
        "maximum": searched(luckiest) - true(luckiest),
        "shrunk": shrunk_mean - true(luckiest),
        "shrunk_covered": abs(shrunk_mean - true(luckiest)) <= 2 * shrunk_error,
        "selection": selection - true(winner),
        "regret": best - true(winner),
        "regret_shrunk": best - true(by_shrunk),
        "regret_raw": best - true(by_raw),
        "regret_maximum": best - true(max(candidates, key=searched)),
        "stopped": sum(not trial.complete for trial in candidates) / len(candidates),
    }
    if resamples:
        scores = {task: [trial.scores["selection"][task].scores for trial in members] for task in world.tasks}
        low = np.array([ends[task][0] for task in world.tasks])
        span = np.array([ends[task][1] for task in world.tasks]) - low
        points = (np.array([truths[trial.number] for trial in members]) - low) / np.where(span > 0, span, 1.0)
        plain = (np.array([np.mean(by_task, axis=1) for by_task in scores.values()]).T - low) / span
        covers, zero = hypervolume(points, np.zeros(tasks)), np.zeros(tasks)
        front = hypervolume_interval(scores, ends, seed=seed, resamples=resamples)
        row["front_covered"] = front.low <= covers <= front.high
        row["front_error"] = front.mean - covers
        row["front_plain_error"] = hypervolume(plain, zero) - covers
    return row


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return rates and means over searches, each with its standard error."""
    found: dict[str, Any] = {"searches": len(rows)}
    values = defaultdict(list)
    for row in rows:
        for key, value in row.items():
            if key not in ("tasks", "way", "report_items"):
                values[key].append(float(np.mean(value)))
    for key, numbers in values.items():
        found[key] = {"mean": float(np.mean(numbers)), "error": float(stats.sem(numbers)) if len(numbers) > 1 else 0.0}
    return found


def main() -> None:
    """Simulate, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--searches", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    count = 100 if options.quick else options.searches
    started = time.monotonic()
    rows = [
        measure(
            options.seed * 1_000_003 + i,
            way=WAYS[i % 3],
            tasks=3 if i % 2 else 1,
            resamples=300 if i % 4 >= 2 else 0,
        )
        for i in range(count)
    ]
    cuts = {
        "all": rows,
        "1 task": [row for row in rows if row["tasks"] == 1],
        "3 tasks": [row for row in rows if row["tasks"] == 3],
        **{way: [row for row in rows if row["way"] == way] for way in WAYS},
        **{f"report {n}": [row for row in rows if row["report_items"] == n] for n in (150, 300, 500, 1319)},
    }
    summary = {name: summarise(cut) for name, cut in cuts.items() if cut}

    def text(data: dict[str, Any], key: str, share: bool) -> str:
        if key not in data:
            return "-"
        mean, error = data[key]["mean"], data[key]["error"]
        return f"{100 * mean:.1f} ± {100 * error:.1f}" if share else f"{mean:+.3f} ± {error:.3f}"

    shares = {
        "covered": "tasks",
        "joined_covered": "mean normalised",
        "shrunk_covered": "shrunk",
        "front_covered": "front",
        "stopped": "stopped",
    }
    print("How often the 95 % interval holds the truth, %; and the share of candidates that a race stopped, %")
    print_table(
        ["searches", *shares.values()],
        [[name, *(text(data, key, True) for key in shares)] for name, data in summary.items()],
    )
    errors = {
        "error": "report, by task",
        "joined_error": "report",
        "selection": "selection",
        "maximum": "search maximum",
        "shrunk": "the same, shrunk",
        "front_error": "front",
        "front_plain_error": "front, plain",
    }
    print("Mean error: what is said less what is true (mean normalised; hypervolume of fronts)")
    print_table(
        ["searches", *errors.values()],
        [[name, *(text(data, key, False) for key in errors)] for name, data in summary.items()],
    )
    regrets = {
        "regret": "as in a search",
        "regret_shrunk": "finalists by shrunk scores",
        "regret_raw": "finalists by raw scores",
        "regret_maximum": "raw maximum, no selection",
    }
    print("Regret: how much better than the winner the truly best candidate is (mean normalised)")
    print_table(
        ["searches", *regrets.values()],
        [[name, *(text(data, key, False) for key in regrets)] for name, data in summary.items()],
    )
    whole = summary["all"]
    for name, key in (("by task", "covered"), ("mean normalised", "joined_covered")):
        rate = whole[key]["mean"]
        print(f"coverage {name}: {rate:.4f}, wanted {TARGET}: {'yes' if TARGET[0] <= rate <= TARGET[1] else 'NO'}")
    for name, key in (("by task", "error"), ("mean normalised", "joined_error")):
        mean, error = whole[key]["mean"], whole[key]["error"]
        held = "yes" if abs(mean) <= 2 * error else "NO"
        print(f"mean error {name}: {mean:+.5f} ± {error:.5f}, zero within two: {held}")
    print(f"{count} searches in {time.monotonic() - started:.0f} s")
    if options.json:
        data = {"searches": count, "seed": options.seed, "summary": summary}
        options.json.write_text(json.dumps(data, indent=1) + "\n")


def _digits(right: Bits) -> str:
    return (right.astype(np.uint8) + ord("0")).astype(np.uint8).tobytes().decode()


if __name__ == "__main__":
    main()
