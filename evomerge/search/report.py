"""The report of a run: scores with intervals on items that took no part in the search, and paired tests.

Normalised scores have their zero (the base) and one (the best expert of each task) from the search split, so that
they are the same numbers that finalists were ranked by. What was found is tested against its best rival of each kind;
the p-values are adjusted for their number. This file knows nothing about how the scores came about.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from evomerge.evaluation.health import Health, health_of
from evomerge.reporting import statistics
from evomerge.reporting.statistics import Interval
from evomerge.reporting.tables import are_shares, plain, print_table
from evomerge.search.baselines import RIVALS
from evomerge.search.columns import (
    SEARCH_SAID,
    Cell,
    covered_lines,
    estimate_text,
    interval_text,
    legend,
    score_columns,
)
from evomerge.search.fronts import front_data
from evomerge.search.predicted import Predictions, summary, summary_line
from evomerge.search.record import Record, Trial
from evomerge.search.results import anchors, best_expert, best_of, estimates, gain_row, selected, weights
from evomerge.search.workers.base import Scored

# 2: gains, and rates of looping and misshapen answers. 3: the front, rivals of all kinds, what search scores are worth.
REPORT_VERSION = 3

Pairs = dict[str, tuple[list[float], list[float]]]


def build_report(
    record: Record, reported: Mapping[int, Scored], predicted: Predictions | None = None
) -> dict[str, Any]:
    """Return the report as plain data: one row a model, and the best found against its rivals on the same items.

    `predicted`: what the search scores say of others, None where they were too few.
    """
    ends, importance, worth = anchors(record), weights(record), estimates(record)
    found = selected(record)[0]
    rivals = {title: rival for kind, title in RIVALS.items() if (rival := best_of(record, kind)) is not None}
    scores = {
        number: {task: [outcome.score for outcome in outcomes] for task, outcomes in scored.outcomes.items()}
        for number, scored in reported.items()
    }
    rows = []
    for number, by_task in scores.items():
        trial = record.trials[number]
        rows.append(
            {
                "title": _title(trial, found, rivals),
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
                "mean_normalised": asdict(statistics.mean_normalised(by_task, ends, weights=importance)),
                "search_estimate": dict(zip(("mean", "error"), worth[number].joined, strict=True)),
            }
        )
    tests = []
    for title, rival in {"best expert": best_expert(record, "selection"), **rivals}.items():
        pairs: Pairs = {task: (scores[found.number][task], scores[rival.number][task]) for task in ends}
        differences = {task: asdict(statistics.paired_difference(*pair)) for task, pair in pairs.items()}
        joined = asdict(statistics.normalised_difference(pairs, ends, weights=importance))
        tests.append((f"{title} ({rival.name})", differences, joined))
    adjusted = statistics.holm([joined["p"] for _, _, joined in tests])
    first = next(iter(reported.values()))
    return {
        "version": REPORT_VERSION,
        "surrogates": summary(predicted),
        "opening": record.openings,
        "anchors": ends,
        "weights": importance,
        "items": {task: [outcome.item for outcome in outcomes] for task, outcomes in first.outcomes.items()},
        "rows": rows,
        "tests": [
            {"first": "best found", "second": rival, "tasks": apart, "mean_normalised": {**joined, "p_adjusted": p}}
            for (rival, apart, joined), p in zip(tests, adjusted, strict=True)
        ],
        "front": front_data(record),
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
    return ["model", *header, "mean normalised", "search said"], [
        [row["title"], *column, plain(_interval(row["mean_normalised"])), estimate_text(row["search_estimate"])]
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
        "These items took no part in the search or the selection. "
        "Normalised: the base's search score is 0, the best expert's 1."
    )
    print_table(header, rows)
    print(SEARCH_SAID)
    for line in legend(header, rows):
        print(line)
    for test in report["tests"]:
        joined = test["mean_normalised"]
        print(
            f"{test['first']} against {test['second']}, paired, mean normalised: {joined['mean']:+.3f} "
            f"[{joined['low']:+.3f}, {joined['high']:+.3f}], p = {joined['p']:.2g}"
            f" ({joined['p_adjusted']:.2g} adjusted for {len(report['tests'])} tests)"
        )
    for line in covered_lines(report["front"]):
        print(line)
    if report["surrogates"]:
        print(summary_line(report["surrogates"]))


def _cell(score: Mapping[str, Any], share: bool) -> Cell:
    gain = score["gain"]
    explained = gain is not None and gain["explained_by_health"]
    return Cell(interval_text(_interval(score), share), Health(**score["health"]), explained)


def _title(trial: Trial, found: Trial, rivals: Mapping[str, Trial]) -> str:
    if trial.number == found.number:
        return f"best found ({trial.number})"
    titles = [title for title, rival in rivals.items() if rival.number == trial.number]
    return f"{titles[0]} ({trial.name})" if titles else trial.name


def _interval(data: Mapping[str, Any]) -> Interval:
    return Interval(data["mean"], data["error"], data["low"], data["high"])
