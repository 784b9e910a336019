"""What a run knows about one of its models, in the words of a model card.

This file reads a record and a configuration; it knows nothing about how a card looks, nor about files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from evomerge.evaluation.types import SPLITS, Split
from evomerge.reporting.card_facts import ItemSet, RunFacts, Scores
from evomerge.reporting.statistics import mean_interval
from evomerge.reporting.tables import are_shares, plain
from evomerge.search.baselines import RIVALS
from evomerge.search.columns import estimate_text, legend, trial_columns, with_interval
from evomerge.search.record import Record, TaskScore, Trial
from evomerge.search.results import best_of, estimates, joined_interval


def run_facts(record: Record, config: Mapping[str, Any], trial: Trial, *, chosen: str) -> RunFacts:
    """Return what a run knows about one of its trials.

    Args:
        record: of the run.
        config: that the run was started with.
        trial: which model.
        chosen: as what it was chosen, as text.
    """
    return RunFacts(
        found={"model": f"{trial.name} (number {trial.number})", "chosen": chosen, **_how(record, config)},
        scores=card_scores(record, trial),
        by_split=_by_split(record, trial),
        items=item_sets(record),
        openings=record.openings,
        versions=scored_with(record),
        results=_results(config, trial),
    )


def facts_of_prediction(record: Record, config: Mapping[str, Any], promised: Sequence[str], *, chosen: str) -> RunFacts:
    """Return what a run knows about a model that its surrogates chose and nobody scored.

    Args:
        record, config, chosen: as for `run_facts`.
        promised: what the surrogates promise of its scores, a line each.
    """
    return RunFacts(
        found={"model": "predicted from all that was scored", "chosen": chosen, **_how(record, config)},
        scores=None,
        by_split=(),
        items=item_sets(record),
        openings=record.openings,
        versions=scored_with(record),
        predicted=promised,
    )


def card_scores(record: Record, trial: Trial) -> Scores | None:
    """Return the scores for a trial's card, with base, experts and the best rivals beside it; None if it has none.

    They are of the split that is farthest from the search among those that the trial was scored on.
    """
    splits = [split for split in SPLITS if split in trial.scores]
    if not splits:
        return None
    split = splits[-1]
    rivals = [best_of(record, kind) for kind in RIVALS]
    others = [*record.of_kind("base", "expert"), *(rival for rival in rivals if rival is not None)]
    shown = [other for other in others if split in other.scores and other.number != trial.number] + [trial]
    header, columns = trial_columns(record, shown, split, with_interval)
    rows = [
        [
            f"**this model** ({other.name})" if other is trial else other.name,
            *column,
            plain(joined_interval(record, other, split)),
        ]
        for other, column in zip(shown, columns, strict=True)
    ]
    header = ["model", *header, "mean normalised"]
    return Scores(split, header, rows, legend(header, rows))


def item_sets(record: Record) -> list[ItemSet]:
    """Return the sets of items of a run that a model was scored on, in the order of the splits."""
    hashes: Mapping[str, str] = (record.begin or {}).get("prompts", {})
    found = []
    for split in SPLITS:
        scored: dict[str, list[TaskScore]] = {}
        for trial in record.of_kind():
            for task, score in trial.scores.get(split, {}).items():
                scored.setdefault(task, []).append(score)
        for task, scores in scored.items():
            items = max(score.items for score in scores)  # a race scores a model on some of them only
            found.append(ItemSet(task, split, items, hashes.get(f"{split}/{task}", "unknown")))
    return found


def scored_with(record: Record) -> dict[str, str]:
    """Return the versions that a run began with."""
    begin = record.begin or {}
    own = {"evomerge": begin["evomerge"]} if "evomerge" in begin else {}
    return {**own, **begin.get("versions", {})}


def _how(record: Record, config: Mapping[str, Any]) -> dict[str, str]:
    optimizer, begin = config.get("optimizer", {}), record.begin or {}
    backend = begin.get("backend", {})
    return {
        "optimizer": str(optimizer.get("name", "unknown")),
        "seed": str(config.get("seed", "unknown")),
        "candidates scored": str(len(record.candidates)),
        "methods": ", ".join(config.get("space", {}).get("methods", [])) or "unknown",
        "scored by": ", ".join(
            str(backend[key]).removeprefix("torch.") for key in ("backend", "dtype", "device") if key in backend
        )
        or "unknown",
    }


def _by_split(record: Record, trial: Trial) -> list[tuple[str, str]]:
    """Return split -> mean normalised score as text; on the search split what it is worth after shrinking."""
    rows: list[tuple[str, str]] = []
    for split in SPLITS:
        if split not in trial.scores:
            continue
        if split == "search":
            mean, error = estimates(record)[trial.number].joined
            text = f"{estimate_text({'mean': mean, 'error': error})} (one standard error; luck of the best taken out)"
        else:
            text = plain(joined_interval(record, trial, split))
        rows.append((split, text))
    return rows


def _results(config: Mapping[str, Any], trial: Trial) -> list[dict[str, Any]]:
    """Return the report scores of a trial as entries of the hub's model-index.

    Only shares whose metric the configuration names: other scores of ours are turned so that larger is better, and
    would mean something else under the metric's own name.
    """
    split: Split = "report"
    found = []
    for task, score in trial.scores.get(split, {}).items():
        metric = config.get("tasks", {}).get(task, {}).get("metric")
        if not metric or not are_shares(score.scores):
            continue
        interval = mean_interval(score.scores)
        ends = f"[{interval.low:.4f}, {interval.high:.4f}]"
        found.append(
            {
                "task": {"type": "text-generation"},
                "dataset": {"type": task, "name": f"{task}, {score.items} items held out from the search"},
                "metrics": [
                    {"type": metric, "value": round(interval.mean, 4), "name": f"{metric}, 95 % interval {ends}"}
                ],
            }
        )
    return found
