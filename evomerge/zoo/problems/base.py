"""What every generator of problems shares: the problem itself, its key, and the bucket that the key falls into.

A problem's key says what is asked once names, objects and wording are taken away. The bucket is a function of the key
alone, so a problem met in training can never be a scored one, whoever generates it and whenever.
Knows nothing about models, prompts or files.
"""

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

SPLITS = ("fewshot", "search", "selection", "report")
"""The buckets that ship as files. Everything else is for training."""

_SHARES = (("fewshot", 0.02), ("search", 0.08), ("selection", 0.08), ("report", 0.08))


@dataclass(frozen=True)
class Problem:
    """One generated problem: `key` is its meaning with names abstracted, `item` the row that a task file holds."""

    key: str
    item: dict[str, Any]


Maker = Callable[[random.Random], Problem]


def bucket(key: str) -> str:
    """Return the bucket of a key: "train" or one of `SPLITS`."""
    place = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") / 2**64
    for name, share in _SHARES:
        if place < share:
            return name
        place -= share
    return "train"


def stream(make: Maker, where: str, seed: int) -> Iterator[Problem]:
    """Yield problems of one bucket without end, the same ones for the same seed. Keys may come up again."""
    rng = random.Random(f"{where}/{seed}")
    while True:
        problem = make(rng)
        if bucket(problem.key) == where:
            yield problem


def distinct(make: Maker, where: str, seed: int, count: int) -> list[Problem]:
    """Return `count` problems of one bucket with pairwise different keys."""
    found: dict[str, Problem] = {}
    for problem in stream(make, where, seed):
        found.setdefault(problem.key, problem)
        if len(found) == count:
            return list(found.values())
    raise AssertionError("the stream never ends")
