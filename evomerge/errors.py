"""The two ways in which evomerge says no, and the hint that names the nearest known word.

The command line turns a `UsageError` into exit status 2 and a `WorkError` into exit status 1, each as one line on
standard error. This file knows nothing about who raises them.
"""

import difflib
import sys
from collections.abc import Iterable

#: What is so however a search ends.
SAFE = "what was recorded is safe, the same command goes on from there"


class EvomergeError(Exception):
    """Base of all errors whose message is one clear line for the user."""


class UsageError(EvomergeError):
    """The request is wrong: a bad option, file, name or model. Exit status 2."""


class WorkError(EvomergeError):
    """The request is right but the work failed: disk full, a dead worker, a lost file. Exit status 1."""


class CandidateError(WorkError):
    """One candidate cannot be built or scored (NaN weights, say). A search records it and goes on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for an unknown `name`: the nearest known one, else the list of all.

    >>> nearest("wieght", ["weight", "drop_rate"])
    "did you mean 'weight'?"
    >>> nearest("x", ["weight", "drop_rate"])
    'known: drop_rate, weight'
    """
    names = sorted(known)
    matches = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {matches[0]!r}?" if matches else "known: " + ", ".join(names)


def refuse_unknown(keys: Iterable[str], known: Iterable[str], where: str) -> None:
    """Raise `UsageError` for the first of `keys` that is not `known`; `where` says what they are keys of."""
    known = list(known)
    for key in keys:
        if key not in known:
            raise UsageError(f"{where}: unknown key {key!r}; {nearest(str(key), known)}")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory has run out: Python's own, a GPU's, or that of torch's CPU allocator.

    Does not import torch: who has not, has none of its errors.
    """
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
