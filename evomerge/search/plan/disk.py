"""How much a search and its export write. This file knows nothing about how long that takes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from evomerge.search.plan.shape import Shape
from evomerge.search.plan.work import Step
from evomerge.search.record import Trial

#: Of an item in the outcome store where none was measured: an answer of a few sentences.
OUTCOME_BYTES = 1000
#: Of a line that tells scores: without the items, and of each task and each item.
_TELL, _TELL_TASK, _TELL_ITEM = 130, 90, 2
#: The page that shows a run: its program, whatever it shows.
_PAGE = 6_000_000


@dataclass(frozen=True)
class Disk:
    """Bytes that are written: the run directory by its parts, and one exported model."""

    outcomes: int
    ledger: int
    pages: int
    export: int

    @property
    def run(self) -> int:
        """The run directory."""
        return self.outcomes + self.ledger + self.pages


def disk(shape: Shape, steps: Sequence[Step], trial: Trial, *, outcome_bytes: float, itemsize: int) -> Disk:
    """Reckon what is written, with as many finalists as there may be.

    Args:
        shape: of the models.
        steps: the work.
        trial: a candidate, as the ledger will have them.
        outcome_bytes: what an item leaves in the outcome store.
        itemsize: bytes of a number in the merged model.
    """
    recipe = len(json.dumps(trial.ask_event()))
    asked = sum(step.models.high for step in steps if step.split == "search")
    scored = sum(step.models.high * _items(step.items) for step in steps)
    told = sum(
        step.models.high * (_TELL + _TELL_TASK * len(step.items) + _TELL_ITEM * _items(step.items)) for step in steps
    )
    ledger = int(asked * recipe + told)
    return Disk(
        outcomes=int(scored * outcome_bytes),
        ledger=ledger,
        pages=_PAGE + 2 * ledger,
        export=shape.parameters * itemsize + shape.companion_bytes,
    )


def _items(items: Mapping[str, int | None]) -> int:
    return sum(count or 0 for count in items.values())
