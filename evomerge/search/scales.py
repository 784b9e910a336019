"""Whether the scale on which tasks are joined is one: 0 is the base and 1 the best expert, if the two differ at all.

Where they do not, differences of a hair count as much as all that other tasks have learnt. This file changes nothing.
"""

from dataclasses import dataclass

from evomerge.reporting.statistics import Difference, paired_difference
from evomerge.search.record import Record


@dataclass(frozen=True)
class Doubtful:
    """A task whose best expert is not clearly better than the base on the search items, and by how much it is."""

    task: str
    expert: str
    items: int
    gain: Difference

    def __str__(self) -> str:
        """Say so."""
        gain = f"{self.gain.mean:.3g}, 95 % interval {self.gain.low:.3g} to {self.gain.high:.3g}"
        return (
            f"{self.task}: the best expert ({self.expert}) is not clearly better than the base on {self.items} items "
            f"(by {gain}), so that normalised scores of this task, and the means that it is part of, are mostly luck"
        )


def doubtful_scales(record: Record) -> list[Doubtful]:
    """Return the tasks whose scale is in doubt; none before base and experts have been scored."""
    base, experts = record.of_kind("base")[0].scores.get("search", {}), record.of_kind("expert")
    found = []
    for task, score in base.items():
        best = max(experts, key=lambda expert: expert.scores["search"][task].mean)
        gain = paired_difference(best.scores["search"][task].scores, score.scores)
        if gain.low <= 0.0:
            found.append(Doubtful(task, best.name, score.items, gain))
    return found
