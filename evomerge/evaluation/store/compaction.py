"""Turning segments into tables, and small tables into larger ones, without ever having a row in no file.

1. Segments are sealed, so that nobody counts on writing there any more.
2. Sealed segments are merged into a new table, then the newest tables as long as they are no smaller than the one
   before them: under a temporary name, which is synced and only then given its own name.
3. The files that a table was made of are removed. The table has their names, so that the next compaction can do it
   after a kill; till then rows are there twice, which readers do not see.

What is left of one that was killed in step 2 is removed by one that runs an hour later. Each table that stays is larger
than all that came after it, so their number, and how often a row is written, grow with the logarithm of the rows.
"""

import heapq
import uuid
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from evomerge.durable import sync_directory
from evomerge.evaluation.store import segments, tables
from evomerge.evaluation.store.contents import Contents
from evomerge.evaluation.store.folder import Folder, Source

TEMPORARY = ".new"
_ABANDONED_SECONDS = 3600


def compact(folder: Folder) -> None:
    """Compact a folder; memory is bounded by the largest model's rows.

    Raises `OSError` if a file cannot be written, or one was removed by somebody else; then nothing is lost.
    """
    _seal(folder.path)
    folder.refresh()
    _remove_replaced(folder)
    for choose in (_from_first_segment, _small_tables):
        folder.refresh()
        chosen = choose([source for source in folder.sources if _is_final(source.path)])
        if chosen:
            _replace(folder.path, chosen)


def _from_first_segment(sources: Sequence[Source]) -> Sequence[Source]:
    """Return the first segment and all after it.

    Tables among them too: the newest files without a gap, so that of two outcomes for one place the same stays first.
    """
    segment = [_is_segment(source.path) for source in sources]
    return sources[segment.index(True) :] if any(segment) else ()


def _small_tables(sources: Sequence[Source]) -> Sequence[Source]:
    """Return the newest tables, and older ones while they are no larger than all that are newer; none if it is one."""
    start = max(0, len(sources) - 1)
    size = sum(source.refresh() for source in sources[start:])
    while start > 0 and sources[start - 1].refresh() <= size:
        start -= 1
        size += sources[start].refresh()
    return sources[start:] if len(sources) - start > 1 else ()


def _replace(path: Path, sources: Sequence[Source]) -> None:
    names = [source.path.name for source in sources]
    temporary = path / (uuid.uuid4().hex + TEMPORARY)
    try:
        tables.write_table(temporary, _merged(sources), replaces=names)
        _remove_abandoned(temporary)
        begun = names[0].partition("-")[0].partition(".")[0]
        temporary.rename(path / f"{begun}-{temporary.stem[:8]}{tables.SUFFIX}")
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path)
    for name in names:
        (path / name).unlink(missing_ok=True)


def _remove_replaced(folder: Folder) -> None:
    """Finish what a kill in step 3 left undone."""
    for source in folder.sources:
        for name in source.replaces if isinstance(source, tables.Table) else ():
            (folder.path / name).unlink(missing_ok=True)


def _seal(path: Path) -> None:
    for segment in path.glob("*" + segments.SUFFIX):
        if not _is_final(segment):
            segments.seal(segment)
    sync_directory(path)


def _is_segment(path: Path) -> bool:
    return path.name.endswith(segments.SEALED)


def _is_final(path: Path) -> bool:
    return _is_segment(path) or path.name.endswith(tables.SUFFIX)


def _merged(sources: Iterable[Source]) -> Iterator[tuple[str, Contents]]:
    """Yield the contents of each model, in the order of keys, each place once, without batches that are finished."""
    by_key = heapq.merge(*(source.by_key() for source in sources), key=itemgetter(0))
    for key, group in groupby(by_key, key=itemgetter(0)):
        merged = Contents()
        places = set()
        for _, contents in group:
            for row in contents.rows:
                place = (row.generation, row.scoring, row.outcome.task, row.outcome.item, row.outcome.prompt_hash)
                if place not in places:
                    places.add(place)
                    merged.rows.append(row)
            merged.batches += contents.batches
        known = {(row.generation, row.outcome.prompt_hash) for row in merged.rows}
        merged.batches = [
            batch
            for batch in dict.fromkeys(merged.batches)
            if any((batch.generation, prompt) not in known for prompt in batch.prompts)
        ]
        yield key, merged


def _remove_abandoned(ours: Path) -> None:
    """Remove what killed compactions left; by the clock of the file system, since ours may be another."""
    now = ours.stat().st_mtime
    for path in ours.parent.glob("*" + TEMPORARY):
        if path.stat().st_mtime < now - _ABANDONED_SECONDS:
            path.unlink(missing_ok=True)
