"""The store of outcomes: found by model, settings, task, item and prompt; written once, never changed.

Opening it reads an index. All that is known of a model is read when it is first asked for, from this folder and those
of other runs, and kept for the models that were asked for last. This file knows nothing about models or tasks, nor
about how files are written.
"""

import errno
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path

from evomerge.durable import unwritable
from evomerge.errors import WorkError
from evomerge.evaluation.store import compaction
from evomerge.evaluation.store.contents import Batch, Row, check_storable
from evomerge.evaluation.store.folder import Folder
from evomerge.evaluation.store.segments import Writer
from evomerge.evaluation.types import Outcome

# What is kept in memory; as many rows with long answers take some 100 MB.
KEPT_MODELS, KEPT_ROWS = 64, 100_000
_TRIES = 10


class OutcomeStore:
    """The outcomes of a run, on disk. Several processes may have a store each on one folder; one is for one thread.

    Args:
        directory: the folder of this run's files; made at the first outcome if it does not exist.
        read_also: folders of other runs, whose outcomes are known too; nothing is written there.

    Outcomes of other writers are seen when a model is first asked for. Where two writers scored the same place, the
    outcome in the older file counts, this run's before other runs'.

    Raises `UsageError` for a file that is damaged or was written by another version, `WorkError` for one that cannot
    be read; damage inside a line is found when its model is asked for.
    """

    def __init__(self, directory: Path, *, read_also: Sequence[Path] = ()) -> None:
        self.directory = Path(directory)
        self._own = Folder(self.directory)
        self._others = [Folder(Path(path)) for path in read_also]
        self._writer = Writer(self.directory)
        self._models: OrderedDict[str, _Model] = OrderedDict()
        self._load(None)

    def get(self, key: str, generation: str, scoring: str, task: str, item: str, prompt_hash: str) -> Outcome | None:
        """Return an outcome, None if there is none.

        Args:
            key: names the model's weights.
            generation: hash of all that shapes a response besides weights and prompt.
            scoring: hash of all that makes a score of a response.
            task: the task's name.
            item: the item's id.
            prompt_hash: of the item's prompt.
        """
        return self._model(key).outcomes.get((generation, scoring, task, item, prompt_hash))

    def response(self, key: str, generation: str, prompt_hash: str) -> Outcome | None:
        """Return the first outcome of a model on a prompt, under whatever task, item and scoring.

        What the model said there (answer, tokens, truncated, seconds) can be scored anew; None if there is none.
        """
        return self._model(key).responses.get((generation, prompt_hash))

    def look_again(self, key: str) -> None:
        """Have what is known of a model read once more when it is next asked for: others may have scored it since."""
        self._models.pop(key, None)

    def of_model(self, key: str) -> list[Outcome]:
        """Return all outcomes of a model, under whatever settings they were made."""
        return list(self._model(key).outcomes.values())

    def add(self, key: str, generation: str, scoring: str, outcomes: Sequence[Outcome]) -> None:
        """Write a block of outcomes, all or nothing, and wait until it is on disk.

        Raises `WorkError` if that fails, `CandidateError` for a number that is not finite, `UsageError` for a name
        that is not valid Unicode; the file is then as it was.
        """
        if not outcomes:
            return
        check_storable((key, generation, scoring), outcomes)
        try:
            self._writer.outcomes(key, generation, scoring, outcomes)
        except OSError as error:
            raise unwritable(self.directory, error) from None
        if key in self._models:
            self._models[key].take([Row(generation, scoring, outcome) for outcome in outcomes])

    def begin(self, key: str, generation: str, batch: Sequence[str]) -> None:
        """Write that the prompts with these hashes are begun together. Survives a kill, but not a power cut."""
        check_storable((key, generation, *batch), ())
        try:
            self._writer.batch(key, generation, batch)
        except OSError as error:
            raise unwritable(self.directory, error) from None
        if key in self._models:
            self._models[key].take((), [Batch(generation, tuple(batch))])

    def open_batches(self, key: str, generation: str) -> list[list[str]]:
        """Return the batches of this run, in the order begun, of which a prompt has no response yet; each once."""
        model = self._model(key)
        return [
            list(batch.prompts)
            for batch in model.batches
            if batch.generation == generation
            and any((generation, prompt) not in model.responses for prompt in batch.prompts)
        ]

    def compact(self) -> None:
        """Turn this folder's segments into tables, which are small and quick to open; best when no other writer lives.

        Safe at any time all the same: nothing is lost in a kill, and a writer whose segment is taken goes on in a new
        one. Raises `WorkError` if it fails; all outcomes are then where they were.
        """
        self.close()
        if not self.directory.is_dir():
            return
        try:
            compaction.compact(self._own)
        except FileNotFoundError:
            pass  # another process compacts this folder and has taken a file
        except OSError as error:
            raise unwritable(self.directory, error) from None

    def close(self) -> None:
        """Close this writer's file."""
        self._writer.close()

    def _model(self, key: str) -> "_Model":
        model = self._models.get(key)
        if model is None:
            model = self._models[key] = self._load(key)
            while len(self._models) > 1 and (
                len(self._models) > KEPT_MODELS or sum(len(m.outcomes) for m in self._models.values()) > KEPT_ROWS
            ):
                self._models.popitem(last=False)
        self._models.move_to_end(key)
        return model

    def _load(self, key: str | None) -> "_Model":
        """Take in what is new on disk, then read a model."""
        for attempt in range(_TRIES):
            model = _Model()
            try:
                for folder in (self._own, *self._others):
                    folder.refresh()
                    for contents in folder.read(key) if key is not None else ():
                        model.take(contents.rows, contents.batches if folder is self._own else ())
                break
            except OSError as error:
                # Files vanish while another process compacts; a network file system takes a while to see it.
                if error.errno not in (errno.ENOENT, errno.ESTALE) or attempt == _TRIES - 1:
                    raise WorkError(
                        f"{error.filename or folder.path}: outcomes cannot be read: {error.strerror or error}"
                    ) from None
                time.sleep(0.1 * attempt)
        return model


class _Model:
    """All that is known of one model."""

    def __init__(self) -> None:
        self.outcomes: dict[tuple[str, str, str, str, str], Outcome] = {}
        self.responses: dict[tuple[str, str], Outcome] = {}
        self.batches: dict[Batch, None] = {}

    def take(self, rows: Iterable[Row], batches: Iterable[Batch] = ()) -> None:
        """Take in what is not known yet."""
        for generation, scoring, outcome in rows:
            self.outcomes.setdefault((generation, scoring, outcome.task, outcome.item, outcome.prompt_hash), outcome)
            self.responses.setdefault((generation, outcome.prompt_hash), outcome)
        self.batches.update(dict.fromkeys(batches))
