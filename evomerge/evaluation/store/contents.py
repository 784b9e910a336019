"""What the files of an outcome store hold, however they are written. This file opens none of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from evomerge.errors import CandidateError, UsageError
from evomerge.evaluation.types import Outcome

STORE_VERSION = 2


class Row(NamedTuple):
    """An outcome and what it was made with: hashes of generation and of scoring settings."""

    generation: str
    scoring: str
    outcome: Outcome


class Batch(NamedTuple):
    """Prompts that were begun together: the hash of the generation settings and the prompts' hashes."""

    generation: str
    prompts: tuple[str, ...]


@dataclass
class Contents:
    """What is known about one model: rows and batches in the order of writing, the first being right."""

    rows: list[Row] = field(default_factory=list)
    batches: list[Batch] = field(default_factory=list)


def check_storable(names: Sequence[str], outcomes: Sequence[Outcome]) -> None:
    """Refuse what cannot be kept exactly; answers may hold any characters, names only those that Unicode allows.

    Raises `CandidateError` for a number that is not finite, `UsageError` for a name that is not valid Unicode.
    """
    for outcome in outcomes:
        numbers = (outcome.score, outcome.strict, outcome.flexible, outcome.seconds, outcome.weight)
        if not all(number is None or math.isfinite(number) for number in numbers):
            raise CandidateError(f"task {outcome.task}, item {outcome.item}: the score is not a finite number")
    try:
        for text in (*names, *(text for o in outcomes for text in (o.task, o.item, o.prompt_hash))):
            text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{text!r}: not valid Unicode; give the task or item another name") from None


def split_answer(answer: str) -> tuple[str, bytes | None]:
    """Return an answer as text that any tool can read and, where that is not exact, the answer's bytes.

    Half of a surrogate pair (which a model may well write) is no valid Unicode; the text then has a question mark.
    """
    try:
        answer.encode()
    except UnicodeEncodeError:
        return answer.encode(errors="replace").decode(), answer.encode(errors="surrogatepass")
    return answer, None


def join_answer(text: str, data: bytes | None) -> str:
    """Return the answer that `split_answer` was given."""
    return text if data is None else data.decode(errors="surrogatepass")


def damaged(path: Path) -> UsageError:
    """Return the refusal of a damaged file."""
    return UsageError(f"{path} is damaged; restore it, or remove it to score its items again")


def wrong_version(path: Path, version: object) -> UsageError:
    """Return the refusal of a file of another version."""
    return UsageError(
        f"{path}: version {version!r} is not the {STORE_VERSION} this evomerge reads; remove it to score its items "
        "again, or give another run directory"
    )
