"""The outcome store: every answer that was ever scored, on disk before anything depends on it.

A folder of files. What is new is in segments: append-only files of JSON lines, one file a writer. `compact()` turns
segments into tables: Parquet files sorted by key, which any tool can read. `outcomes.py` is the store; `segments.py`
and `tables.py` read and write one file each; `compaction.py` turns the one into the other.

Who wins: each file's name begins with the time when it was begun, and of two outcomes for one place that of the older
file counts, in a file the first one.
"""

from evomerge.evaluation.store.contents import STORE_VERSION
from evomerge.evaluation.store.outcomes import OutcomeStore

__all__ = ["STORE_VERSION", "OutcomeStore"]
