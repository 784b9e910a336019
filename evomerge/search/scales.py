"""Whether the scale on which tasks are joined is one: 0 is the base and 1 the best expert, if the two differ at all.

Where they do not, differences of a hair count as much as all that other tasks have learnt. This file changes nothing.
"""

from evomerge.reporting.statistics import paired_difference
from evomerge.search.record import Record


def doubtful_scales(record: Record) -> list[str]:
    """Return a line for each task in which no expert is clearly better than the base on the search items.

    Args:
        record: base and experts have been scored.
    """
    [base], experts = record.of_kind("base"), record.of_kind("expert")
    lines = []
    for task, score in base.scores["search"].items():
        best = max((expert.scores["search"][task] for expert in experts), key=lambda found: found.mean)
        difference = paired_difference(best.scores, score.scores)
        if difference.low <= 0.0:
            lines.append(
                f"{task}: on {score.items} items no expert is clearly better than the base ({difference.mean:+.3g} "
                f"[{difference.low:+.3g}, {difference.high:+.3g}]); 1 on its normalised scale is that difference, so it may "
                f"outweigh all other tasks with noise: give it more items, or '+objectives={{{task}: {{weight: 0}}}}', "
                "which keeps it on the front and out of the mean"
            )
    return lines
