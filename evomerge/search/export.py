"""From a run directory to a model on disk: rebuilt from its recipe, and checked against what was scored.

This file knows nothing about how a search goes on, nor how weights are merged or written.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from evomerge.merging import ExportReport, export
from evomerge.reporting.card import card
from evomerge.search.directory import RunDirectory
from evomerge.search.report import table
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
    directory, record = RunDirectory(path), read_run(path)
    trial = pick_trial(record, pick, prefer)
    scores: list[list[str]] = []
    if directory.report.exists():
        header, rows = table(json.loads(directory.report.read_text(encoding="utf-8")))
        scores = [header, *rows]
    text = card(trial.recipe, scores=scores, openings=record.openings)
    return export(trial.recipe, out, threads=threads, expected_fingerprint=trial.fingerprint, card=text)
