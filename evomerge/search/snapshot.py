"""The state of an optimizer beside the ledger, so that a search of a hundred thousand candidates goes on in seconds.

The ledger alone is the truth. A snapshot says of which ledger it is (the hash of its first bytes), of which optimizer,
and with which libraries it was made; one that does not fit in all of this is left alone, and the optimizer replays the
ledger from its beginning. It may be deleted at any time, and nothing but the time of a start depends on it. It is a
NumPy archive of plain arrays and one JSON text: nothing in it is ever executed. This file knows nothing about what an
optimizer's state is.
"""

import contextlib
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from evomerge import __version__
from evomerge.durable import replacing
from evomerge.search.directory import RunDirectory
from evomerge.search.ledger import LEDGER_VERSION, Ledger

SNAPSHOT_VERSION = 1
#: Seconds between two snapshots, and the share of the time that writing them may take.
INTERVAL, EFFORT = 60.0, 0.005
#: How an array is referred to in the JSON text.
_ARRAY = "array"
#: By whose bits optimizers go on.
_LIBRARIES = ("numpy", "scipy", "cma", "optuna", "pymoo")


class Snapshots:
    """The snapshot of one run: read at its start, written now and then.

    Args:
        ledger: the open ledger, beside which it lies.
        clock: gives the time in seconds.
    """

    def __init__(self, ledger: Ledger, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = RunDirectory(ledger.path.parent).snapshot
        self._ledger, self._clock = ledger, clock
        self._next = clock() + INTERVAL

    def due(self) -> bool:
        """Say whether it is time to write one."""
        return self._clock() >= self._next

    def write(self, state: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write a snapshot; a disk that is full costs time later, not the search.

        Args:
            state: plain data, with arrays in it, of an optimizer that was told all that the ledger has.
            facts: plain data that must be the same when it is read.
        """
        begun = self._clock()
        self._ledger.sync()  # else the snapshot could be of a ledger that the machine's end took a piece of
        size = self._ledger.size
        header = {**_self(), "facts": facts, "size": size, "digest": self._ledger.digest(size)}
        arrays: list[np.ndarray[Any, Any]] = []
        text = json.dumps({**header, "state": packed(state, arrays)}, allow_nan=True)
        named: dict[str, Any] = {f"{_ARRAY}{i}": array for i, array in enumerate(arrays)}
        with contextlib.suppress(OSError), replacing(self.path) as temporary, temporary.open("wb") as file:
            np.savez(file, text=np.frombuffer(text.encode(), dtype=np.uint8), **named)
        now = self._clock()
        self._next = now + max(INTERVAL, (now - begun) / EFFORT)

    def read(self, facts: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the state in the snapshot, None where none fits the ledger, these facts and libraries."""
        try:
            with np.load(self.path, allow_pickle=False) as archive:
                data = json.loads(archive["text"].tobytes())
                expected = {**_self(), "facts": json.loads(json.dumps(facts))}
                if any(data.get(key) != value for key, value in expected.items()):
                    return None
                if data["size"] > self._ledger.size or self._ledger.digest(data["size"]) != data["digest"]:
                    return None
                state = unpacked(data["state"], archive)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
            return None  # none yet, or damaged
        return state if isinstance(state, dict) else None


def _self() -> dict[str, Any]:
    """Return what makes a snapshot."""
    libraries: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = None
    return {"version": SNAPSHOT_VERSION, "evomerge": __version__, "ledger": LEDGER_VERSION, "libraries": libraries}


def packed(value: Any, arrays: list[np.ndarray[Any, Any]]) -> Any:
    """Return plain data in which arrays are numbered; they are added to `arrays`."""
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            raise TypeError("a snapshot holds plain arrays only")
        arrays.append(value)
        return {_ARRAY: len(arrays) - 1}
    if isinstance(value, Mapping):
        if _ARRAY in value or not all(isinstance(key, str) for key in value):
            raise TypeError("the keys of a snapshot are texts, and none is 'array'")
        return {key: packed(item, arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item, arrays) for item in value]
    return value


def unpacked(value: Any, archive: Mapping[str, Any]) -> Any:
    """Return plain data with the arrays in their places."""
    if isinstance(value, dict):
        if _ARRAY in value:
            return archive[f"{_ARRAY}{value[_ARRAY]}"]
        return {key: unpacked(item, archive) for key, item in value.items()}
    if isinstance(value, list):
        return [unpacked(item, archive) for item in value]
    return value
