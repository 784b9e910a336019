"""A sweep as a whole: runs that differ in the seed alone are a group, and groups (optimizers, above all) are compared.

Of each run its best candidate counts, on the split farthest from the search on which all have one; the jobs of a sweep
stop at the selection split. This file knows nothing about how a comparison is shown.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evomerge.evaluation.types import SPLITS, Split
from evomerge.reporting.groups import group_difference, group_mean
from evomerge.reporting.statistics import Difference, Interval, holm
from evomerge.search.config import flatten
from evomerge.search.page.numbers import short
from evomerge.search.page.view import View
from evomerge.search.results import joined_interval

#: Keys of a configuration in which runs of a group may differ: what does not bear on what is found, and the seed.
IDLE = ("seed", "name", "workers", "tracker", "fork_from", "evaluation.outcomes", "evaluation.offload_folder")


@dataclass(frozen=True)
class Group:
    """Runs that differ in the seed alone.

    Attributes:
        name: what they have and others have not, the optimizer first.
        runs: their places in the sequence of runs.
        scores: the mean normalised score of each one's best candidate.
        joined: their mean, with an interval for other items and, from two runs on, other seeds.
        candidates, seconds: scored candidates of a run and the time that all of its scoring took, on average.
    """

    name: str
    runs: tuple[int, ...]
    scores: tuple[float, ...]
    joined: Interval
    candidates: float
    seconds: float


@dataclass(frozen=True)
class Comparison:
    """Groups of runs, the best first.

    Attributes:
        split: of all scores.
        groups: by mean.
        behind: for each group but the first, what the first is ahead by; p adjusted for all pairs of groups.
        left_out: places of runs that have no best candidate yet.
    """

    split: Split
    groups: tuple[Group, ...]
    behind: tuple[Difference, ...]
    left_out: tuple[int, ...]


def compare(views: Sequence[View]) -> Comparison | None:
    """Compare the groups of comparable runs (`data.comparable`); None where fewer than two runs have a best candidate.

    The first group is the best of several, so each p is adjusted (Holm) for all pairs, not only for those shown.
    """
    counted = [place for place, view in enumerate(views) if view.best is not None]
    if len(counted) < 2:
        return None
    split = next(s for s in reversed(SPLITS) if all(s in _best(views[place]).scores for place in counted))
    names = group_names([view.config for view in views])
    by_name: dict[str, list[int]] = {}
    for place in counted:
        by_name.setdefault(names[place], []).append(place)
    anchors, weights = views[counted[0]].anchors, views[counted[0]].weights

    def scores(places: Sequence[int]) -> list[dict[str, Sequence[float]]]:
        return [{task: score.scores for task, score in _best(views[p]).scores[split].items()} for p in places]

    groups = [
        Group(
            name=name,
            runs=tuple(places),
            scores=tuple(joined_interval(views[p].record, _best(views[p]), split).mean for p in places),
            joined=group_mean(scores(places), anchors, weights=weights),
            candidates=sum(len(views[p].record.candidates) for p in places) / len(places),
            seconds=sum(sum(trial.seconds for trial in views[p].trials) for p in places) / len(places),
        )
        for name, places in by_name.items()
    ]
    groups.sort(key=lambda group: -group.joined.mean)
    pairs = list(itertools.combinations(range(len(groups)), 2))
    found = [
        group_difference(scores(groups[a].runs), scores(groups[b].runs), anchors, weights=weights) for a, b in pairs
    ]
    adjusted = holm([difference.p for difference in found])
    behind = [
        Difference(difference.mean, difference.error, difference.low, difference.high, p)
        for (first, _), difference, p in zip(pairs, found, adjusted, strict=True)
        if first == 0
    ]
    left_out = tuple(place for place in range(len(views)) if place not in counted)
    return Comparison(split, tuple(groups), tuple(behind), left_out)


def group_names(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the name of each run's group: its optimizer, then all else in which runs differ, as KEY=VALUE.

    Options of optimizers count where they differ between runs of one optimizer.
    """
    flat = [_telling(config) for config in configs]
    optimizers = [str(keys.get("optimizer.name", "?")) for keys in flat]

    def differ(key: str, among: Sequence[int]) -> bool:
        return len({repr(flat[place].get(key)) for place in among}) > 1

    everywhere = sorted({key for keys in flat for key in keys if not key.startswith("optimizer.")})
    common = [key for key in everywhere if differ(key, range(len(flat)))]
    names = []
    for keys, optimizer in zip(flat, optimizers, strict=True):
        mates = [place for place, name in enumerate(optimizers) if name == optimizer]
        own = sorted({key for place in mates for key in flat[place] if key.startswith("optimizer.")})
        shown = [*(key for key in own if differ(key, mates)), *common]
        names.append(" ".join([optimizer, *(f"{key.removeprefix('optimizer.')}={keys.get(key)}" for key in shown)]))
    return names


def comparison_data(views: Sequence[View]) -> dict[str, Any] | None:
    """Return the comparison as a page has it, None where there is none."""
    found = compare(views)
    if found is None:
        return None
    rows = []
    for group, behind in zip(found.groups, [None, *found.behind], strict=True):
        row: dict[str, Any] = {
            "name": group.name,
            "runs": list(group.runs),
            "scores": [short(score) for score in group.scores],
            **{key: short(getattr(group.joined, key)) for key in ("mean", "low", "high")},
            "candidates": short(group.candidates),
            "seconds": short(group.seconds),
            "behind": behind and {key: short(getattr(behind, key)) for key in ("mean", "low", "high", "p")},
        }
        rows.append(row)
    return {"split": found.split, "groups": rows, "left_out": list(found.left_out)}


def _telling(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the dotted keys of a configuration that bear on what is found."""
    return {
        key: value
        for key, value in flatten(config).items()
        if not any(key == idle or key.startswith(idle + ".") for idle in IDLE)
    }


def _best(view: View) -> Any:
    assert view.best is not None
    return view.best
