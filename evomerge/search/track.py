"""The way of one candidate over the search items: block by block where it races, else all at once.

Races compute on one thread, so that the number of processors has no say in their bits. This file knows nothing about
who scores, nor how a race is decided.
"""

from collections.abc import Mapping, Sequence

from evomerge.errors import WorkError
from evomerge.evaluation.types import Outcome
from evomerge.search.racing import Race
from evomerge.search.record import Scores, TaskScore
from evomerge.threads import one_thread

ItemIds = Mapping[str, tuple[str, ...]]


class Track:
    """What a candidate has been scored on so far, and what is next.

    Args:
        items: task -> the ids of all its items.
        race: decides what is scored next and when to stop; None: everything is, in one block.
    """

    def __init__(self, items: ItemIds, race: Race | None = None) -> None:
        self._items, self._race = items, race
        self._found: dict[str, dict[int, Outcome]] = {task: {} for task in items}
        self._block: dict[str, tuple[int, ...]] | None = None
        self.fingerprint: str | None = None
        self.seconds = 0.0
        with one_thread():
            self._advance()

    @property
    def block(self) -> dict[str, tuple[str, ...]] | None:
        """The ids of the items to be scored next, by task; None: there is nothing more to score."""
        if self._block is None:
            return None
        return {task: tuple(self._items[task][place] for place in places) for task, places in self._block.items()}

    @property
    def beaten_by(self) -> int | None:
        """The trial that was found better before all items were scored."""
        return None if self._race is None else self._race.beaten_by

    @one_thread()
    def take(self, fingerprint: str, outcomes: Mapping[str, Sequence[Outcome]], seconds: float) -> None:
        """Take in the outcomes of the block, one an item, in its order; `WorkError` if other weights answered."""
        assert self._block is not None
        if self.fingerprint not in (None, fingerprint):
            raise WorkError(
                f"the same recipe built {self.fingerprint} and then {fingerprint}; a model file must have changed"
            )
        self.fingerprint = fingerprint
        self.seconds += seconds
        for task, places in self._block.items():
            self._found[task].update(zip(places, outcomes.get(task, ()), strict=True))
        if self._race is not None:
            self._race.take([[outcome.score for outcome in outcomes.get(task, ())] for task in self._block])
        self._advance()

    @one_thread()
    def scores(self) -> Scores:
        """Return the scores of all that was scored."""
        whole = all(len(found) == len(self._items[task]) for task, found in self._found.items())
        if whole or self._race is None:
            return {task: TaskScore.of(found[place] for place in sorted(found)) for task, found in self._found.items()}
        return {
            task: TaskScore.of(
                (found[place] for place in sorted(found)), places=sorted(found), estimate=(result.mean, result.error)
            )
            for (task, found), result in zip(self._found.items(), self._race.results(), strict=True)
        }

    def _advance(self) -> None:
        if self._race is not None:
            places = self._race.block()
            self._block = None if places is None else dict(zip(self._items, places, strict=True))
        elif self._block is None and not any(self._found.values()):
            self._block = {task: tuple(range(len(ids))) for task, ids in self._items.items()}
        else:
            self._block = None
