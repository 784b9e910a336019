"""What a record shows: who ranks where, what the search scores are worth, the best of each kind, the front.

Pure functions of the record. Scores of several tasks are joined as the weighted mean of normalised scores: 0 is the
base's score on a task, 1 the best expert's, both on the search split. A trial with a score below its task's floor comes
after all that have none. This file knows nothing about how scores came about.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evomerge.evaluation.health import Gain
from evomerge.evaluation.types import Split
from evomerge.optimizers.base import Objective
from evomerge.optimizers.scalarization import shortfall
from evomerge.reporting import statistics
from evomerge.reporting.front import non_dominated
from evomerge.reporting.shrinkage import FEWEST, ItemNoise, item_noise, shrink
from evomerge.reporting.statistics import Interval
from evomerge.search.record import Record, Trial

#: Kinds of which there are many, so that the best of them is flattered by luck: their search scores are shrunk.
MANY = ("candidate", "random")
#: More trials than this tell nothing new about how much luck there is in an item's score.
NOISE_FROM = 2000


@dataclass(frozen=True)
class Estimate:
    """What a trial's search scores are worth: mean and standard error of each task's score, and of all joined."""

    tasks: Mapping[str, tuple[float, float]]
    joined: tuple[float, float]


# ---- scales --------------------------------------------------------------------------------------------------------


def objectives(record: Record, split: Split) -> list[Objective]:
    """Return one objective a task: base and best expert on `split` as its zero and one, its weight and its floor."""
    base, experts = record.of_kind("base")[0].scores[split], record.of_kind("expert")
    settings = (record.begin or {}).get("objectives", {})
    return [
        Objective(
            task,
            score.mean,
            max(expert.scores[split][task].mean for expert in experts),
            weight=settings.get(task, {}).get("weight", 1.0),
            floor=settings.get(task, {}).get("floor"),
        )
        for task, score in base.items()
    ]


def anchors(record: Record) -> dict[str, tuple[float, float]]:
    """Return task -> the scores of base and best expert on the search split, the zero and one of every table."""
    return {o.name: (o.low or 0.0, o.high or 0.0) for o in objectives(record, "search")}


def weights(record: Record) -> dict[str, float]:
    """Return task -> its weight in the mean of normalised scores."""
    return {o.name: o.weight for o in objectives(record, "search")}


def floors(record: Record) -> dict[str, float]:
    """Return task -> the score that a trial must reach, for the tasks that have one."""
    return {o.name: o.floor for o in objectives(record, "search") if o.floor is not None}


def mean_normalised(record: Record, trial: Trial, split: Split) -> float:
    """Return the weighted mean over tasks of a trial's normalised scores on `split`."""
    return means_normalised(record, [trial], split)[0]


def means_normalised(record: Record, trials: Sequence[Trial], split: Split) -> list[float]:
    """Return `mean_normalised` of each trial; none for none, also before there is a scale."""
    scales = objectives(record, "search") if trials else []
    return [_joined(scales, [score.mean for score in trial.scores[split].values()]) for trial in trials]


def joined_interval(record: Record, trial: Trial, split: Split) -> Interval:
    """Return `mean_normalised` with its interval."""
    scores = {task: score.scores for task, score in trial.scores[split].items()}
    return statistics.mean_normalised(scores, anchors(record), weights=weights(record))


def rank(record: Record, trials: Iterable[Trial], split: Split) -> list[Trial]:
    """Return trials by mean normalised score on `split`, those below a floor last, earlier first where equal."""
    trials = list(trials)
    scales = objectives(record, "search") if trials else []  # there are none before base and experts have been scored

    def key(trial: Trial) -> tuple[float, float, int]:
        values = [trial.scores[split][scale.name].mean for scale in scales]
        return shortfall(scales, values), -_joined(scales, values), trial.number

    return sorted(trials, key=key)


# ---- what search scores are worth ----------------------------------------------------------------------------------


def estimates(record: Record) -> dict[int, Estimate]:
    """Return what the search scores of all scored trials are worth, by number.

    Of many candidates the best has been lucky, too. Their scores are shrunk (`reporting/shrinkage.py`), candidates and
    random points each among their own, by the error with which they are compared: what the items that all were scored
    on add to all alike plays no part there, but does in the error of the result. A candidate that a race stopped has
    the error of its estimate besides, and is shrunk more. The others (base, experts, a few merges) stay as they are.
    """
    scales = objectives(record, "search")
    scored = [trial for trial in record.of_kind() if "search" in trial.scores]
    found = {trial.number: _plain(scales, trial) for trial in scored}
    for kind in MANY:
        members = [trial for trial in scored if trial.kind == kind]
        if len(members) >= FEWEST:
            found |= _shrunk(scales, members, scored)
    return found


def by_estimate(record: Record, trials: Iterable[Trial], worth: Mapping[int, Estimate]) -> list[Trial]:
    """Return scored trials by what their search scores are `worth` (`estimates`).

    Those that a race stopped come after all that were scored to the end, and those below a floor last of each.
    """
    scales = objectives(record, "search")

    def key(trial: Trial) -> tuple[bool, float, float, int]:
        estimate = worth[trial.number]
        lacking = shortfall(scales, [estimate.tasks[scale.name][0] for scale in scales])
        return not trial.complete, lacking, -estimate.joined[0], trial.number

    return sorted(trials, key=key)


# ---- the best of each kind -----------------------------------------------------------------------------------------


def selected(record: Record) -> list[Trial]:
    """Return the candidates that were scored on the selection split, best there first.

    Those that a race had stopped come after all others.
    """
    ranked = rank(record, (trial for trial in record.candidates if "selection" in trial.scores), "selection")
    return sorted(ranked, key=lambda trial: not trial.complete)


def best_of(record: Record, kind: str) -> Trial | None:
    """Return the baseline of a kind that is best on the selection split, None if none was scored there."""
    return next(iter(rank(record, (t for t in record.of_kind(kind) if "selection" in t.scores), "selection")), None)


def best_expert(record: Record, split: Split) -> Trial:
    """Return the expert with the best mean normalised score on `split`."""
    return rank(record, record.of_kind("expert"), split)[0]


def best_parent(record: Record, split: Split, task: str) -> Trial | None:
    """Return the expert with the best score on a task and split, the first of equals; None if none was scored there."""
    experts = [trial for trial in record.of_kind("expert") if split in trial.scores]
    return max(experts, key=lambda trial: trial.scores[split][task].mean, default=None)


def gain_of(record: Record, trial: Trial, split: Split, task: str) -> Gain | None:
    """Return what a merge gains over the best expert on a task and split, item by item, and how much of it is health.

    None for the base and the experts, and where no expert was scored.
    """
    parent = best_parent(record, split, task)
    if parent is None or trial.kind in ("base", "expert"):
        return None
    return trial.scores[split][task].gain_over(parent.scores[split][task])


def gain_row(record: Record, trial: Trial, split: Split, task: str) -> dict[str, Any] | None:
    """Return a merge's gain over the best expert on a task and split as plain data, None where `gain_of` is."""
    gain, parent = gain_of(record, trial, split, task), best_parent(record, split, task)
    if gain is None or parent is None:
        return None
    return {"parent": parent.name, **asdict(gain), "explained_by_health": gain.explained}


# ---- the front -----------------------------------------------------------------------------------------------------


def front(record: Record, worth: Mapping[int, Estimate] | None = None) -> list[Trial]:
    """Return the candidates that no other candidate beats on every task, by what their search scores are `worth`.

    Candidates that a race stopped are on it only where no other was scored; of those below a floor only the one that
    lacks least, and only where all are.
    """
    trials = [trial for trial in record.candidates if trial.complete] or record.candidates
    if not trials:
        return []
    scales = objectives(record, "search")
    points = estimated_points(trials, worth or estimates(record))
    lacking = [shortfall(scales, point) for point in points]
    least = min(lacking)
    kept = [(trial, point) for trial, point, lack in zip(trials, points, lacking, strict=True) if lack <= least]
    on = non_dominated([point for _, point in kept])
    return [trial for (trial, _), keep in zip(kept, on, strict=True) if keep]


def estimated_points(trials: Sequence[Trial], worth: Mapping[int, Estimate]) -> list[list[float]]:
    """Return for each trial what its search scores are `worth`, task by task."""
    return [[mean for mean, _ in worth[trial.number].tasks.values()] for trial in trials]


def normalised_points(record: Record, trials: Sequence[Trial], worth: Mapping[int, Estimate]) -> list[list[float]]:
    """Return `estimated_points` on the normalised scales."""
    scales = objectives(record, "search")
    return [
        [scale.normalise(x) for scale, x in zip(scales, point, strict=True)]
        for point in estimated_points(trials, worth)
    ]


# ---- parts ---------------------------------------------------------------------------------------------------------


def _joined(scales: Sequence[Objective], values: Sequence[float]) -> float:
    pairs = zip(scales, values, strict=True)
    return sum(scale.weight * scale.normalise(value) for scale, value in pairs) / sum(scale.weight for scale in scales)


def _factors(scales: Sequence[Objective]) -> list[float]:
    """Return what the error of each task's score is multiplied with in that of the joined score."""
    total = sum(scale.weight for scale in scales)
    return [scale.weight / total * (scale.normalise(1.0) - scale.normalise(0.0)) for scale in scales]


def _plain(scales: Sequence[Objective], trial: Trial) -> Estimate:
    tasks = {scale.name: _score(trial, scale.name) for scale in scales}
    error = math.hypot(*(f * tasks[scale.name][1] for f, scale in zip(_factors(scales), scales, strict=True)))
    return Estimate(tasks, (_joined(scales, [mean for mean, _ in tasks.values()]), error))


def _shrunk(scales: Sequence[Objective], members: Sequence[Trial], others: Sequence[Trial]) -> dict[int, Estimate]:
    """Return the estimates of trials that are alike; noise is told from them, or from `others` where too few are."""
    own, common = [], []  # for each task: the error of each trial against the others, and that of all alike
    for scale in scales:
        noise, items = _noise(scale.name, members) or _noise(scale.name, others) or (ItemNoise(0.0, 0.0), 1)
        own.append(
            [
                math.hypot(noise.own / math.sqrt(items), 0.0 if trial.complete else _score(trial, scale.name)[1])
                for trial in members
            ]
        )
        common.append(noise.common / math.sqrt(items))
    means = [[_score(trial, scale.name)[0] for trial in members] for scale in scales]
    by_task = [shrink(values, errors) for values, errors in zip(means, own, strict=True)]
    factors = _factors(scales)
    joined = shrink(
        [_joined(scales, values) for values in zip(*means, strict=True)],
        [math.hypot(*(f * e for f, e in zip(factors, errors, strict=True))) for errors in zip(*own, strict=True)],
    )
    joined_common = math.hypot(*(f * c for f, c in zip(factors, common, strict=True)))
    return {
        trial.number: Estimate(
            {
                scale.name: (task.means[i], math.hypot(task.errors[i], c))
                for scale, task, c in zip(scales, by_task, common, strict=True)
            },
            (joined.means[i], math.hypot(joined.errors[i], joined_common)),
        )
        for i, trial in enumerate(members)
    }


def _noise(task: str, trials: Sequence[Trial]) -> tuple[ItemNoise, int] | None:
    """Return the noise of an item's scores, and how many items; None if fewer than two of either are complete.

    It is told from `NOISE_FROM` trials from all over the search, where there are many more.
    """
    complete = [trial for trial in trials if trial.complete]
    rows = [trial.scores["search"][task].array for trial in complete[:: max(1, len(complete) // NOISE_FROM)]]
    if len(rows) < 2 or len(rows[0]) < 2:
        return None
    return item_noise(np.array(rows)), len(rows[0])


def _score(trial: Trial, task: str) -> tuple[float, float]:
    """Return mean and error; the error of a single item of unbounded score is as large as the score itself."""
    score = trial.scores["search"][task]
    return score.mean, score.error if math.isfinite(score.error) else abs(score.mean)
