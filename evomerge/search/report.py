"""The report of a run: scores with intervals on items that took no part in the search, and paired tests.

Normalised scores have their zero (the base) and one (the best expert of each task) from the search split, so that
they are the same numbers that finalists were ranked by. This file knows nothing about how the scores came about.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evomerge.evaluation.health import Health, health_of
from evomerge.reporting import statistics
from evomerge.reporting.statistics import Interval
from evomerge.reporting.tables import are_shares, plain, print_table
from evomerge.search.columns import Cell, interval_text, legend, score_columns
from evomerge.search.record import Record, Trial
from evomerge.search.results import best_expert, best_uniform, gain_row, objectives, selected
from evomerge.search.workers import Scored

# 2: gains, and rates of looping and misshapen answers.
REPORT_VERSION = 2

Pairs = dict[str, tuple[list[float], list[float]]]


def build_report(record: Record, reported: Mapping[int, Scored]) -> dict[str, Any]:
    """Return the report as plain data: one row a model, and the best found against its rivals on the same items."""
    anchors = {o.name: (o.low or 0.0, o.high or 0.0) for o in objectives(record, "search")}
    found, uniform = selected(record)[0], best_uniform(record)
    scores = {
        number: {task: [outcome.score for outcome in outcomes] for task, outcomes in scored.outcomes.items()}
        for number, scored in reported.items()
    }
    rows = []
    for number, by_task in scores.items():
        trial = record.trials[number]
        rows.append(
            {
                "title": _title(trial, found, uniform),
                "number": number,
                "name": trial.name,
                "recipe_hash": trial.recipe.hash,
                "fingerprint": trial.fingerprint,
                "scores": {
                    task: {
                        **asdict(statistics.mean_interval(values)),
                        "health": asdict(health_of(reported[number].outcomes[task])),
                        "gain": gain_row(record, trial, "report", task),
                        "by_item": values,
                    }
                    for task, values in by_task.items()
                },
                "mean_normalised": asdict(statistics.mean_normalised(by_task, anchors)),
            }
        )
    tests = []
    for rival, title in ((best_expert(record, "selection"), "best expert"), (uniform, "best uniform")):
        if rival is None:
            continue
        pairs: Pairs = {task: (scores[found.number][task], scores[rival.number][task]) for task in anchors}
        tests.append(
            {
                "first": "best found",
                "second": f"{title} ({rival.name})",
                "tasks": {task: asdict(statistics.paired_difference(*pair)) for task, pair in pairs.items()},
                "mean_normalised": asdict(statistics.normalised_difference(pairs, anchors)),
            }
        )
    first = next(iter(reported.values()))
    return {
        "version": REPORT_VERSION,
        "opening": record.openings,
        "anchors": anchors,
        "items": {task: [outcome.item for outcome in outcomes] for task, outcomes in first.outcomes.items()},
        "rows": rows,
        "tests": tests,
    }


def table(report: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the report's table as text."""
    rows = report["rows"]
    shares = {
        task: are_shares(score for row in rows for score in row["scores"][task]["by_item"])
        for task in report["anchors"]
    }
    header, columns = score_columns(
        shares, [{task: _cell(row["scores"][task], share) for task, share in shares.items()} for row in rows]
    )
    return ["model", *header, "mean normalised"], [
        [row["title"], *column, plain(_interval(row["mean_normalised"]))]
        for row, column in zip(rows, columns, strict=True)
    ]


def print_report(report: Mapping[str, Any]) -> None:
    """Print the table and the tests."""
    header, rows = table(report)
    sizes = ", ".join(f"{len(items)} of {task}" for task, items in report["items"].items())
    print(
        f"\nScores on the report split ({sizes}) with 95 % intervals; it has been opened {report['opening']} time(s)."
    )
    print(
        "These items took no part in the search or the selection. Normalised: 0 is the base, 1 each task's best expert."
    )
    print_table(header, rows)
    for line in legend(header, rows):
        print(line)
    for test in report["tests"]:
        joined = test["mean_normalised"]
        print(
            f"{test['first']} against {test['second']}, paired, mean normalised: {joined['mean']:+.3f} "
            f"[{joined['low']:+.3f}, {joined['high']:+.3f}], p = {joined['p']:.2g}"
        )


def _cell(score: Mapping[str, Any], share: bool) -> Cell:
    gain = score["gain"]
    explained = gain is not None and gain["explained_by_health"]
    return Cell(interval_text(_interval(score), share), Health(**score["health"]), explained)


def _title(trial: Trial, found: Trial, uniform: Trial | None) -> str:
    if trial.number == found.number:
        return f"best found ({trial.number})"
    if uniform is not None and trial.number == uniform.number:
        return f"best uniform ({trial.name})"
    return trial.name


def _interval(data: Mapping[str, Any]) -> Interval:
    return Interval(data["mean"], data["error"], data["low"], data["high"])
