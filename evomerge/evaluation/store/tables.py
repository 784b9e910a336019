"""Tables: Parquet files, one row an outcome, sorted by the model's key and never changed.

All rows of a key are in one row group, so that they are read without the rest of the file. The file's metadata say
which keys each row group spans, which batches were begun and not finished, and of which files it was made. Answers are
valid Unicode in the column `answer`; where that is not the exact answer, `answer_bytes` is (UTF-8 with lone
surrogates).
"""

import json
import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evomerge.evaluation.store.contents import (
    STORE_VERSION,
    Batch,
    Contents,
    Row,
    damaged,
    join_answer,
    split_answer,
    wrong_version,
)
from evomerge.evaluation.types import Outcome

SUFFIX = ".parquet"
GROUP_ROWS = 2048
_METADATA = b"evomerge"
_NAMES = [field.name for field in fields(Outcome)]
_values = attrgetter(*_NAMES)
_KINDS = {
    "score": pa.float64(),
    "tokens": pa.int64(),
    "truncated": pa.bool_(),
    "strict": pa.float64(),
    "flexible": pa.float64(),
    "seconds": pa.float64(),
    "weight": pa.float64(),
}
SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("key", "generation", "scoring")]
    + [(name, _KINDS.get(name, pa.string())) for name in _NAMES]
    + [("answer_bytes", pa.binary())]
)
# Worth a dictionary: the same few texts in many rows.
_REPEATED = ["key", "generation", "scoring", "task", "item", "prompt_hash"]


def write_table(path: Path, models: Iterable[tuple[str, Contents]], *, replaces: Sequence[str]) -> None:
    """Write a table and wait until it is on disk.

    Args:
        path: a file that does not exist.
        models: key and contents of each model, in the order of the keys.
        replaces: the names of the files that all this is from.

    Raises `OSError` if it cannot be written.
    """
    spans: list[tuple[str, str]] = []
    batches: dict[str, list[Batch]] = {}
    keys: list[str] = []
    rows: list[Row] = []

    def write_group() -> None:
        writer.write_table(_to_arrow(keys, rows))
        spans.append((keys[0], keys[-1]))
        keys.clear()
        rows.clear()

    with path.open("xb") as file:
        writer = pq.ParquetWriter(
            file,
            SCHEMA,
            compression="zstd",
            use_dictionary=_REPEATED,
            write_statistics=["key"],
            write_page_checksum=True,
        )
        try:
            for key, contents in models:
                keys += [key] * len(contents.rows)
                rows += contents.rows
                if contents.batches:
                    batches[key] = contents.batches
                if len(rows) >= GROUP_ROWS:
                    write_group()
            if rows:
                write_group()
            facts = {"version": STORE_VERSION, "replaces": replaces, "spans": spans, "batches": batches}
            writer.add_key_value_metadata({_METADATA: json.dumps(facts).encode()})
            writer.close()
        finally:
            writer.is_open = False  # or it would try to close the file once more when it is collected
        file.flush()
        os.fsync(file.fileno())


class Table:
    """Reads a table, of which only the metadata are kept in memory.

    Attributes:
        replaces: the names of the files that it was made of.

    Raises `UsageError` for a file that is damaged or of another version, `FileNotFoundError` if it is gone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._size = path.stat().st_size
            self._metadata = pq.read_metadata(path)
            facts = json.loads(self._metadata.metadata[_METADATA])
            if facts["version"] != STORE_VERSION:
                raise wrong_version(path, facts["version"])
            self.replaces: list[str] = facts["replaces"]
            self._spans: list[tuple[str, str]] = [(first, last) for first, last in facts["spans"]]
            self._batches = {
                key: [Batch(generation, tuple(prompts)) for generation, prompts in batches]
                for key, batches in facts["batches"].items()
            }
        except (KeyError, TypeError, ValueError, OSError) as error:
            raise _refusal(path, error) from None

    def refresh(self) -> int:
        """Return the size in bytes, which never changes."""
        return self._size

    def read(self, key: str) -> Contents:
        """Return what the table holds of a model."""
        contents = Contents(batches=list(self._batches.get(key, ())))
        group = bisect_left(self._spans, key, key=lambda span: span[1])
        if group < len(self._spans) and self._spans[group][0] <= key:
            try:
                with self._open() as file:
                    keys = file.read_row_group(group, columns=["key"], use_threads=False)["key"].to_pylist()
                    if len(keys) != self._metadata.row_group(group).num_rows:
                        raise damaged(self.path)
                    start, stop = bisect_left(keys, key), bisect_right(keys, key)
                    if start < stop:
                        table = file.read_row_group(group, columns=SCHEMA.names[1:], use_threads=False)
                        contents.rows = _from_arrow(table.slice(start, stop - start))
            except (ValueError, OSError) as error:
                raise _refusal(self.path, error) from None
        return contents

    def by_key(self) -> Iterator[tuple[str, Contents]]:
        """Yield what it holds of each model, in the order of their keys."""
        keys = set(self._batches)
        with self._open() as file:
            for group in range(len(self._spans)):
                keys.update(file.read_row_group(group, columns=["key"])["key"].to_pylist())
        for key in sorted(keys):
            yield key, self.read(key)

    def _open(self) -> Any:
        return pq.ParquetFile(self.path, metadata=self._metadata, page_checksum_verification=True)


def _to_arrow(keys: list[str], rows: list[Row]) -> pa.Table:
    columns: dict[str, Any] = dict(zip(_NAMES, zip(*(_values(row.outcome) for row in rows), strict=True), strict=True))
    columns["answer"], columns["answer_bytes"] = zip(*map(split_answer, columns["answer"]), strict=True)
    columns["generation"], columns["scoring"], _ = zip(*rows, strict=True)
    columns["key"] = keys
    return pa.table([pa.array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _from_arrow(table: pa.Table) -> list[Row]:
    generations, scorings, *columns, data = (column.to_pylist() for column in table.columns)
    answer = _NAMES.index("answer")
    columns[answer] = [join_answer(*pair) for pair in zip(columns[answer], data, strict=True)]
    outcomes = map(Outcome, *columns)
    return [Row(*row) for row in zip(generations, scorings, outcomes, strict=True)]


def _refusal(path: Path, error: Exception) -> Exception:
    """Return what to raise: the operating system's own errors have a number, those for bad contents have none."""
    return error if isinstance(error, OSError) and error.errno is not None else damaged(path)
