"""From a run directory to a model on disk: rebuilt from its recipe, and checked against what was scored.

This file knows nothing about how a search goes on, nor how weights are merged or written.
"""

from collections.abc import Mapping
from pathlib import Path

from evomerge.evaluation.types import SPLITS
from evomerge.merging import ExportReport, export
from evomerge.reporting.card import Scores, card
from evomerge.reporting.tables import plain
from evomerge.search.baselines import RIVALS
from evomerge.search.columns import legend, trial_columns, with_interval
from evomerge.search.record import Record, Trial
from evomerge.search.results import best_of, joined_interval
from evomerge.search.show import pick_trial, read_run


def export_trial(path: Path, out: Path, *, pick: str, prefer: Mapping[str, float], threads: int) -> ExportReport:
    """Write the model of a run's candidate and check it against the fingerprint recorded when it was scored.

    Args:
        path: the run directory.
        out: an empty or new directory.
        pick: best (on the selection split), knee (of the front), or the number of a trial.
        prefer: task -> weight; not empty: the front's best by weighted normalised scores.
        threads: how many threads merge.
    """
    record = read_run(path)
    trial = pick_trial(record, pick, prefer)
    text = card(trial.recipe, scores=card_scores(record, trial))
    return export(trial.recipe, out, threads=threads, expected_fingerprint=trial.fingerprint, card=text)


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
    return Scores(split, header, rows, legend(header, rows), record.openings)
