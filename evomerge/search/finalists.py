"""Who goes on: from the search split to the selection split, and from there to the report.

The best by search score are the lucky ones too, so finalists are chosen by what their search scores are worth
(`results.estimates`), scored on items that took no part in the search, and chosen again there. Pure functions of the
record. This file knows nothing about how scores come about.
"""

from collections.abc import Mapping

from evomerge.reporting.front import spread_out
from evomerge.search.config import Selection
from evomerge.search.record import Record, Trial
from evomerge.search.results import (
    Estimate,
    best_of,
    by_estimate,
    estimates,
    front,
    normalised_points,
    objectives,
    selected,
)


def finalists(record: Record, settings: Selection, worth: Mapping[int, Estimate] | None = None) -> list[Trial]:
    """Return what is scored on the selection split.

    Base and experts; all untuned methods; the best `settings.finalists` of the uniform merges, of the random points and
    of the candidates, each kind by the same rule, so that none is better chosen than another; and of the front the
    `settings.front` members that together cover most. `worth` is what search scores are worth, where that is known.
    """
    worth = estimates(record) if worth is None else worth
    many = [
        trial
        for kind in ("uniform", "random", "candidate")
        for trial in by_estimate(record, (t for t in record.of_kind(kind) if "search" in t.scores), worth)[
            : settings.finalists
        ]
    ]
    chosen = [*record.of_kind("base", "expert", "untuned"), *many, *front_finalists(record, worth, settings.front)]
    return list({trial.number: trial for trial in chosen}.values())


def front_finalists(record: Record, worth: Mapping[int, Estimate], most: int) -> list[Trial]:
    """Return at most `most` members of the front, those that together cover most between the base and beyond first.

    Points are what search scores are `worth` (`results.estimates`).

    Those that add nothing to it (no better than the base on some task) come last, the best of them first.
    """
    members, scales = front(record, worth), objectives(record, "search")
    points = normalised_points(record, members, worth)
    zero = [scale.normalise(scale.low or 0.0) for scale in scales]
    spread = [members[i] for i in spread_out(points, zero, most)]
    rest = [trial for trial in by_estimate(record, members, worth) if trial not in spread]
    return [*spread, *rest][:most]


def reported(record: Record, settings: Selection) -> list[Trial]:
    """Return what is scored on the report split: base, experts, the best of each other kind, the chosen candidates."""
    best = [best_of(record, kind) for kind in ("uniform", "untuned", "random")]
    return [
        *record.of_kind("base", "expert"),
        *(trial for trial in best if trial is not None),
        *selected(record)[: settings.chosen],
    ]
