"""What a search has cost: seconds, items and tokens. This file knows nothing about what they were spent on."""

from typing import Any

from evomerge.search.page.numbers import short
from evomerge.search.page.view import View


def cost(view: View) -> dict[str, Any]:
    """Return seconds (of merging and scoring together) and items by split, tokens, and the number of candidates."""
    seconds: dict[str, float] = {}
    for event in view.events:  # the record keeps the seconds of the search split only
        if event["event"] == "tell":
            seconds[event["split"]] = seconds.get(event["split"], 0.0) + event["seconds"]
    rows = [(split, score) for t in view.trials for split, scores in t.scores.items() for score in scores.values()]
    items: dict[str, int] = {}
    for split, score in rows:
        items[split] = items.get(split, 0) + score.items
    return {
        "seconds": {split: short(value) for split, value in seconds.items()},
        "items": items,
        "tokens": sum(score.tokens for _, score in rows),
        "candidates": len(view.record.of_kind("candidate")),
    }
