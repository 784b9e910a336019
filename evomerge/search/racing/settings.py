"""The settings of a race, checked. This file knows nothing about how a race is run."""

from dataclasses import dataclass
from typing import Literal

from evomerge.checks import number, whole
from evomerge.errors import UsageError, nearest

Rule = Literal["front", "weighted_sum", "maximin", "tchebycheff"]

ORDERS = ("information", "uniform")
ESTIMATES = ("paired", "plain", "irt")


@dataclass(frozen=True)
class RacingSettings:
    """How candidates race.

    Attributes:
        alpha: the promise. A candidate that full evaluation would rank as good as all its references is stopped with
            at most this probability.
        first: items of each task in the first block.
        eta: the items so far grow by this factor from block to block. A finer race stops sooner, in smaller batches.
        references: a candidate runs against at most so many members of the front (under a scalarization: the best).
        margin: "as good" means better by at least this, on the normalised scale. Above 0 the search may also lose what
            is better by less.
        order: of the items. `information`: those sooner whose score is least certain, from the complete trials and
            the scores so far; `uniform`.
        estimate: what is expected of the items, in tests and estimates alike. `paired`: what the combination of
            complete trials has scored on them that fits the scores so far; `irt`: what an item response model says;
            `plain`: the candidate's own mean.

    Raises `UsageError` for values that make no sense.
    """

    alpha: float = 0.05
    first: int = 16
    eta: float = 2.0
    references: int = 8
    margin: float = 0.0
    order: str = "information"
    estimate: str = "paired"

    def __post_init__(self) -> None:
        """Check the values."""
        whole(self.first, "racing.first", least=1)
        whole(self.references, "racing.references", least=1)
        number(self.alpha, "racing.alpha", above=0, below=1)
        number(self.eta, "racing.eta", above=1)
        number(self.margin, "racing.margin", least=0)
        for name, word, known in (("order", self.order, ORDERS), ("estimate", self.estimate, ESTIMATES)):
            if word not in known:
                raise UsageError(f"racing.{name}: unknown value {word!r}; {nearest(str(word), known)}")
